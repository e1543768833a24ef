"""Reading jobs for many clients that poll at once."""

import asyncio
from dataclasses import dataclass

from jobs.identity import is_job_id
from jobs.reader import JobReader, State
from jobs.view import departure, has_ended, job_json, owner_of, tag_of
from schemas.names import Departure


@dataclass(frozen=True)
class FoundJob:
    """A job as it is sent, whose it is, and the validator of what is sent."""

    body: bytes
    has_ended: bool
    owner: str
    tag: str
    is_queued: bool


@dataclass(frozen=True)
class GoneJob:
    """A job that is there no more."""

    owner: str
    why: Departure


Found = FoundJob | GoneJob | None


Answer = asyncio.Future[Found]


class JobLookup:
    """Jobs by id, one round trip for all that were asked for while the last one was under way.

    Polling is the commonest request by far, and its round trip costs the less the more clients
    share it. Those who ask for one job at one time share the answer too; who asks when no round
    trip is under way makes one. Every answer was read after its question.
    """

    def __init__(self, reader: JobReader) -> None:
        self._reader = reader
        self._waiting: dict[str, list[Answer]] = {}
        self._is_reading = False
        self._batches: asyncio.Task[None] | None = None

    async def find(self, job_id: str) -> Found:
        """The job as it stands now, whoever owns it. Raises RedisError."""
        if not is_job_id(job_id):
            return None
        if self._is_reading:
            answer: Answer = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(job_id, []).append(answer)
            return await answer
        self._is_reading = True
        try:
            (found,) = await self._read([job_id])
        finally:
            self._is_reading = bool(self._waiting)
            if self._waiting:
                # Held, since the event loop does not hold its tasks.
                self._batches = asyncio.create_task(self._read_waiting())
        return found

    async def _read_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                await self._answer(batch)
        finally:
            self._is_reading = False

    async def _read(self, ids: list[str]) -> list[Found]:
        states = await self._reader.read(ids)
        return [_rendered(job_id, state) for job_id, state in zip(ids, states, strict=True)]

    async def _answer(self, batch: dict[str, list[Answer]]) -> None:
        found: list[Found] | Exception
        try:
            found = await self._read(list(batch))
        except Exception as error:  # whatever it is, it is the askers' to handle
            found = error
        for index, answers in enumerate(batch.values()):
            # A client that went away has cancelled its own answer.
            for answer in (answer for answer in answers if not answer.done()):
                if isinstance(found, Exception):
                    answer.set_exception(found)
                else:
                    answer.set_result(found[index])


def _rendered(job_id: str, state: State) -> Found:
    values, rank = state
    why = departure(values)
    if why is not None:
        return GoneJob(owner_of(values), why)
    body = job_json(job_id, values, rank)
    if body is None:
        return None
    tag, is_queued = tag_of(values, rank), rank is not None
    return FoundJob(body, has_ended(values), owner_of(values), tag, is_queued)
