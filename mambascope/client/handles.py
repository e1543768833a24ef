"""A job at hand: watched, ended, kept or removed, and turned into its analysis."""

from collections.abc import AsyncIterator, Callable, Iterator

from mambascope.client.analysis import Analysis, AsyncAnalysis, found
from mambascope.client.errors import TimedOut
from mambascope.client.events import events
from mambascope.client.service import Service, Standing
from mambascope.client.wire import iterate, run
from schemas.job import Job, JobEvent

Seen = Callable[[Job], None]


class _Handle:
    """A job's id, and the service that has it."""

    def __init__(self, service: Service, job_id: str, standing: Standing | None = None) -> None:
        self._service = service
        self._standing = standing
        self.id = job_id

    @property
    def url(self) -> str:
        """The job's address."""
        return self._service.location(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    async def _look(self) -> Job:
        return (await self._service.look(self.id)).job

    async def _ended(self, timeout: float | None, seen: Seen) -> Job:
        """The job when it has ended. Raises TimedOut, and as every exchange does."""
        standing, self._standing = self._standing, None
        standing = standing or await self._service.look(self.id)
        try:
            return await self._service.follow(standing, seen, timeout)
        except TimedOut as late:
            raise TimedOut(
                f"Job {self.id} has not ended within {timeout:g} s, and goes on. "
                f"client.job({self.id!r}).result() waits for it, .cancel() ends it."
            ) from late


class JobHandle(_Handle):
    """A job. Every method raises NotFound for an unknown one, JobGone for one that is no more."""

    def status(self) -> Job:
        """The job as it stands."""
        return run(self._look())

    def wait(self, timeout: float | None = None) -> Job:
        """The job when it has ended, however. Raises TimedOut after `timeout` seconds."""
        return run(self._ended(timeout, _unseen))

    def result(self, timeout: float | None = None, *, seen: Seen | None = None) -> Analysis:
        """Wait for the end, and have what was found; `seen` is called with each state on the way.

        Raises JobFailed, JobCancelled and TimedOut.
        """
        job = run(self._ended(timeout, seen or _unseen))
        return Analysis(self._service, *run(found(self._service, job)))

    def events(self) -> Iterator[JobEvent]:
        """What happens to the job, from its beginning to its end."""
        return iterate(events(self._service, self.id))

    def cancel(self) -> Job:
        """End the job; one that has ended stays as it is. Its record stays."""
        return run(self._service.cancel(self.id))

    def delete(self) -> None:
        """Remove the job and its files for good."""
        run(self._service.delete(self.id))

    def pin(self) -> None:
        """Keep the result: it neither expires nor is evicted."""
        run(self._service.pin(self.id, True))

    def unpin(self) -> None:
        """Let the result go when its time has come."""
        run(self._service.pin(self.id, False))


class AsyncJobHandle(_Handle):
    """As `JobHandle`, awaited."""

    async def status(self) -> Job:
        """As of `JobHandle`."""
        return await self._look()

    async def wait(self, timeout: float | None = None) -> Job:
        """As of `JobHandle`."""
        return await self._ended(timeout, _unseen)

    async def result(
        self, timeout: float | None = None, *, seen: Seen | None = None
    ) -> AsyncAnalysis:
        """As of `JobHandle`."""
        job = await self._ended(timeout, seen or _unseen)
        return AsyncAnalysis(self._service, *await found(self._service, job))

    def events(self) -> AsyncIterator[JobEvent]:
        """As of `JobHandle`."""
        return events(self._service, self.id)

    async def cancel(self) -> Job:
        """As of `JobHandle`."""
        return await self._service.cancel(self.id)

    async def delete(self) -> None:
        """As of `JobHandle`."""
        await self._service.delete(self.id)

    async def pin(self) -> None:
        """As of `JobHandle`."""
        await self._service.pin(self.id, True)

    async def unpin(self) -> None:
        """As of `JobHandle`."""
        await self._service.pin(self.id, False)


def _unseen(job: Job) -> None:
    """Nobody watches."""
