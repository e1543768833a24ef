"""Reading jobs for many clients that poll at once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from jobs import Jobs
from jobs.identity import is_job_id
from jobs.view import job_from


@dataclass(frozen=True)
class FoundJob:
    """A job as it is sent: serialised once, in the thread that read it."""

    body: str
    has_ended: bool


Answer = asyncio.Future[FoundJob | None]


class JobLookup:
    """Jobs by id, one round trip for all that were asked for while the last one was under way.

    Polling is the commonest request by far. A thread and a round trip for each poll cost more than
    the rest of the request together; shared, they cost the less the more clients there are. Those
    who ask for one job at one time share the answer too. Every answer was read after its question.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._waiting: dict[str, list[Answer]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job-lookup")

    async def find(self, job_id: str) -> FoundJob | None:
        """The job as it stands now, or None. Raises RedisError when the store does not answer."""
        if not is_job_id(job_id):
            return None
        answer: Answer = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, []).append(answer)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_waiting())
        return await answer

    def close(self) -> None:
        """Let the thread go."""
        self._thread.shutdown(wait=False)

    async def _read_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                await self._answer(batch)
        finally:
            self._reader = None

    async def _answer(self, batch: dict[str, list[Answer]]) -> None:
        loop = asyncio.get_running_loop()
        found: list[FoundJob | None] | Exception
        try:
            found = await loop.run_in_executor(self._thread, self._read, list(batch))
        except Exception as error:  # whatever it is, it is the askers' to handle
            found = error
        for index, answers in enumerate(batch.values()):
            # A client that went away has cancelled its own answer.
            for answer in (answer for answer in answers if not answer.done()):
                if isinstance(found, Exception):
                    answer.set_exception(found)
                else:
                    answer.set_result(found[index])

    def _read(self, ids: list[str]) -> list[FoundJob | None]:
        with self._jobs.redis.pipeline(transaction=True) as pipe:
            for job_id in ids:
                self._jobs.store.stage_get(pipe, job_id)
            answers = pipe.execute()
        return [_rendered(job_id, *answers[2 * i : 2 * i + 2]) for i, job_id in enumerate(ids)]


def _rendered(job_id: str, values: list[bytes | None], rank: int | None) -> FoundJob | None:
    job = job_from(job_id, values, rank)
    return None if job is None else FoundJob(job.model_dump_json(), job.status.terminal)
