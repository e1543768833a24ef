"""Says that a worker is alive, from a thread of its own."""

import os
import threading
from collections.abc import Callable

import structlog
from redis import RedisError

from jobs.presence import Presence
from workers.processes import RunnerProcess

log = structlog.get_logger("workers.announcer")

# Also how soon the service sees a worker become ready, or a model become resident.
_INTERVAL = 0.5


class Announcer(threading.Thread):
    """Announces one worker until stopped: whether its runner is ready, what it holds."""

    def __init__(
        self, presence: Presence, worker: str, runner: Callable[[], RunnerProcess | None]
    ) -> None:
        super().__init__(name="announcer", daemon=True)
        self._presence = presence
        self._worker = worker
        self._runner = runner
        self._stopping = threading.Event()

    def run(self) -> None:
        """Announce until `stop`, and then withdraw."""
        while not self._stopping.is_set():
            runner = self._runner()
            ready = runner is not None and runner.ready and not runner.dead
            models = runner.models if runner is not None else []
            try:
                self._presence.announce(self._worker, ready=ready, models=models, pid=os.getpid())
            except RedisError as error:
                log.warning("presence not announced", error=str(error))
            self._stopping.wait(_INTERVAL)
        try:
            self._presence.withdraw(self._worker)
        except RedisError as error:
            log.warning("presence not withdrawn", error=str(error))

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join()
