"""Whose turn it is: due webhooks by host, so that none waits for another's receiver."""

from collections import deque
from dataclasses import dataclass, field, replace

from jobs.outbox import Due, Held

# Deliveries to one host at a time; to one that failed last time, a single one.
_PER_HOST = 8
# What waits in memory, by host and in all. The rest is found in the outbox again.
_LANE_LENGTH = 1000
_TOTAL_LENGTH = 20_000


@dataclass
class _Lane:
    waiting: deque[str] = field(default_factory=deque)
    under_way: int = 0
    is_failing: bool = False

    @property
    def has_turn(self) -> bool:
        return bool(self.waiting) and self.under_way < (1 if self.is_failing else _PER_HOST)


class Lanes:
    """Hosts take turns, and each has at most `_PER_HOST` deliveries under way."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        # Ordered: the next host first.
        self._turns: dict[str, None] = {}
        self._hosts: dict[str, str] = {}
        self._waiting: dict[str, Due] = {}

    def renew(self, held: Held) -> bool:
        """Take note that a job was held again; False when it is not known here."""
        if held.job_id in self._waiting:
            waiting = self._waiting[held.job_id]
            self._waiting[held.job_id] = replace(waiting, until=held.until)
        return held.job_id in self._hosts

    def put(self, host: str, due: Due) -> None:
        """Let a job wait for its host's turn, if there is room."""
        lane = self._lanes.setdefault(host, _Lane())
        if len(self._waiting) < _TOTAL_LENGTH and len(lane.waiting) < _LANE_LENGTH:
            lane.waiting.append(due.job_id)
            self._waiting[due.job_id] = due
            self._hosts[due.job_id] = host
        self._order(host)

    def take(self) -> Due | None:
        """The next job to deliver; None when no host has a turn. `done` has to follow."""
        if not self._turns:
            return None
        host = next(iter(self._turns))
        del self._turns[host]
        lane = self._lanes[host]
        lane.under_way += 1
        taken = self._waiting.pop(lane.waiting.popleft())
        self._order(host)
        return taken

    def done(self, job_id: str, *, failed: bool | None = None) -> None:
        """A delivery has ended; `failed` says whether its host did, None: nothing is known."""
        host = self._hosts.pop(job_id)
        lane = self._lanes[host]
        lane.under_way -= 1
        if failed is not None:
            lane.is_failing = failed
        self._order(host)

    def waiting(self) -> list[Due]:
        """Every job that waits."""
        return list(self._waiting.values())

    def _order(self, host: str) -> None:
        lane = self._lanes[host]
        if lane.has_turn:
            self._turns.setdefault(host)
        else:
            self._turns.pop(host, None)
        if not lane.waiting and not lane.under_way:
            del self._lanes[host]
