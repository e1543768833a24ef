"""The two clients of a service: one blocks, one is awaited. What they say to it is one."""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, Unpack

import httpx

from mambascope.client.analysis import Analysis, AsyncAnalysis
from mambascope.client.connecting import HTTP_TIMEOUT, address, authorization
from mambascope.client.exchange import PATIENCE
from mambascope.client.handles import AsyncJobHandle, JobHandle, Seen
from mambascope.client.requests import RequestFields, body, spelled
from mambascope.client.service import Service
from mambascope.client.wire import AwaitingWire, BlockingWire, iterate, run
from schemas.catalogue import Health, ModelDescription, ModelList
from schemas.job import JobSummary
from schemas.names import Status

_log = logging.getLogger("mambascope")


class Client:
    """A service, from code that blocks. It may be used by several threads at once.

    `url` is else MAMBASCOPE_URL, or this machine's port 8090, and `key` MAMBASCOPE_KEY. `timeout`
    is how long one exchange may take, `patience` how long a service that has answered may be away,
    both in seconds. Raises ValueError for what is no address or no key.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = HTTP_TIMEOUT,
        patience: float = PATIENCE,
    ) -> None:
        base = address(url)
        self._http = httpx.Client(base_url=base, headers=authorization(base, key), timeout=timeout)
        self._service = Service(BlockingWire(self._http), patience, _log.warning)

    @property
    def url(self) -> str:
        """The service's address."""
        return self._service.url

    @spelled
    def analyze(
        self,
        texts: str | Iterable[str],
        *,
        timeout: float | None = None,
        progress: bool = True,
        **fields: Unpack[RequestFields],
    ) -> Analysis:
        """Submit a request, show how far it is, and return what was found.

        The bar is shown in a terminal and in a notebook. Interrupted, or after `timeout` seconds,
        the job goes on: the exception's note or message has its id. Raises RequestRefused,
        JobFailed, JobCancelled, TimedOut and Unreachable.
        """
        _load_progress()
        job = self.submit(texts, **fields)
        with _shown(job.id, progress) as seen:
            return job.result(timeout, seen=seen)

    @spelled
    def submit(
        self,
        texts: str | Iterable[str],
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[RequestFields],
    ) -> JobHandle:
        """Submit a request once, whatever happens on the way, and return its job.

        Of two submits with one `idempotency_key`, also by two programs, the second has the job of
        the first. Raises RequestRefused, JobGone where that job is there no more, RateLimited and
        Unreachable.
        """
        standing = run(self._service.submit(body(texts, fields), idempotency_key))
        return JobHandle(self._service, standing.job.id, standing)

    def job(self, job_id: str) -> JobHandle:
        """A job by its id; the service is asked when the handle is."""
        return JobHandle(self._service, job_id)

    def jobs(
        self,
        *,
        status: Status | str | None = None,
        model: str | None = None,
        limit: int | None = None,
    ) -> Iterator[JobSummary]:
        """The jobs of this key, newest first; pages are fetched as they are needed."""
        return iterate(self._service.listed(status, model, limit))

    def models(self) -> ModelList:
        """What `models` may name."""
        return run(self._service.models())

    def model(self, model_id: str) -> ModelDescription:
        """A model's layers, their mixers, and the methods that apply. Raises NotFound."""
        return run(self._service.model(model_id))

    def health(self) -> Health:
        """Whether the service is alive, and its version. Raises Unreachable."""
        return run(self._service.health())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"


class AsyncClient:
    """As `Client`, awaited, on asyncio. Many analyses may run at once, so no bar is shown."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = HTTP_TIMEOUT,
        patience: float = PATIENCE,
    ) -> None:
        base = address(url)
        self._http = httpx.AsyncClient(
            base_url=base, headers=authorization(base, key), timeout=timeout
        )
        self._service = Service(AwaitingWire(self._http), patience, _log.warning)

    @property
    def url(self) -> str:
        """The service's address."""
        return self._service.url

    @spelled
    async def analyze(
        self,
        texts: str | Iterable[str],
        *,
        timeout: float | None = None,
        progress: bool = False,
        **fields: Unpack[RequestFields],
    ) -> AsyncAnalysis:
        """As of `Client`. A bar is for one analysis at a time."""
        _load_progress()
        job = await self.submit(texts, **fields)
        with _shown(job.id, progress) as seen:
            return await job.result(timeout, seen=seen)

    @spelled
    async def submit(
        self,
        texts: str | Iterable[str],
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[RequestFields],
    ) -> AsyncJobHandle:
        """As of `Client`."""
        standing = await self._service.submit(body(texts, fields), idempotency_key)
        return AsyncJobHandle(self._service, standing.job.id, standing)

    def job(self, job_id: str) -> AsyncJobHandle:
        """As of `Client`."""
        return AsyncJobHandle(self._service, job_id)

    def jobs(
        self,
        *,
        status: Status | str | None = None,
        model: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[JobSummary]:
        """As of `Client`."""
        return self._service.listed(status, model, limit)

    async def models(self) -> ModelList:
        """As of `Client`."""
        return await self._service.models()

    async def model(self, model_id: str) -> ModelDescription:
        """As of `Client`."""
        return await self._service.model(model_id)

    async def health(self) -> Health:
        """As of `Client`."""
        return await self._service.health()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r})"


def _load_progress() -> None:
    """Load what shows progress while there is no job yet.

    Python drops an interrupt that comes as it lets go of the lock of a module that it imports, and
    these are hundreds.
    """
    import mambascope.progress  # noqa: F401


@contextmanager
def _shown(job_id: str, progress: bool) -> Iterator[Callable[..., None]]:
    """Shows the states of a job; who breaks off is told its id."""
    try:
        from mambascope.progress import onlooker, tell_job

        with onlooker(progress) as told:
            seen: Seen = lambda job: tell_job(told, job)  # noqa: E731
            yield seen
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(
            f"Job {job_id} goes on: client.job({job_id!r}).result() waits for it, "
            ".cancel() ends it."
        )
        raise
