"""Every operation of a service, as coroutines over a wire: submit, watch, list, end, describe.

Nothing that a service sends is used as an address: every path is made here from ids and names.
"""

import json
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from mambascope.client.errors import JobGone, RequestRefused, Unreachable
from mambascope.client.exchange import (
    FOREVER,
    PATIENCE,
    Away,
    Exchange,
    Question,
    parsed,
    retry_after,
)
from mambascope.client.wire import Wire
from schemas.catalogue import Health, ModelDescription, ModelList
from schemas.job import Artifact, ArtifactList, Job, JobList, JobSummary
from schemas.names import JOBS_PATH, MODELS_PATH
from schemas.problem import ProblemType

# Seconds.
_ASK_AFTER = 1.0
_LONGEST_PAUSE = 300.0
_WAIT = 20
# Between two answers about a job that changes all the time.
_LEAST_PAUSE = 0.2
_PAGE = 100


@dataclass(frozen=True)
class Standing:
    """A job as it stood, the seconds after which asking again makes sense, and its `ETag`."""

    job: Job
    ask_after: float
    etag: str | None = None


class Service:
    """A running service. Its methods raise as `Exchange.ask` unless they say more."""

    def __init__(
        self,
        wire: Wire,
        patience: float = PATIENCE,
        away: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.wire = wire
        self.exchange = Exchange(wire, patience, away)
        self._longest_wait = _WAIT

    @property
    def url(self) -> str:
        """Its address, without a password that it may hold."""
        return self.exchange.url

    def location(self, job_id: str) -> str:
        """The address of a job."""
        return f"{self.url}{job_path(job_id)}"

    # Jobs

    async def submit(self, request: Mapping[str, Any], key: str | None = None) -> Standing:
        """Submit a request, once: it is sent again, under the same key, when its fate is unknown.

        `key` is the Idempotency-Key, at random if None.
        """
        key = key or str(uuid.uuid4())
        # ASCII, so that halves of characters reach the service, which says what is wrong.
        body = json.dumps(request).encode("ascii")
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        try:
            answer = await self.exchange.ask(
                Question("POST", JOBS_PATH, headers=headers, content=body)
            )
        except Unreachable as error:
            if isinstance(error.__cause__, Away):
                error.add_note(
                    "The job may have been accepted. Submitted again with "
                    f"idempotency_key={key!r} it is the same one."
                )
            raise
        return _standing(answer)

    async def look(self, job_id: str, deadline: float = FOREVER) -> Standing:
        """A job as it stands; asked for until the deadline where the service is away."""
        return _standing(await self.exchange.ask(Question("GET", job_path(job_id)), deadline))

    async def follow(
        self, standing: Standing, seen: Callable[[Job], None], time_limit: float | None = None
    ) -> Job:
        """The job when it has ended; `seen` is called with each state on the way.

        Raises also TimedOut when the job has not ended after `time_limit` seconds.
        """
        async with aclosing(self.states(standing, time_limit)) as states:
            async for job in states:
                seen(job)
        return job

    async def states(
        self, standing: Standing, time_limit: float | None = None
    ) -> AsyncGenerator[Job, None]:
        """A job as it stands, and again after each change until its end. Raises as `follow`."""
        deadline = FOREVER if time_limit is None else self.wire.clock() + time_limit
        pause = 0.0
        yield standing.job
        while not standing.job.status.terminal:
            await self.exchange.pause(pause, deadline)
            standing, pause = await self._next(standing, deadline)
            yield standing.job

    async def _next(self, standing: Standing, deadline: float) -> tuple[Standing, float]:
        """The job after its next change, or a while later, and the pause that is still due.

        A service that knows `wait` answers when the job changes; another answers at once, without a
        new `ETag`, and is asked again when it says.
        """
        began = self.wire.clock()
        wait = int(min(self._longest_wait, deadline - began))
        question = Question(
            "GET",
            job_path(standing.job.id),
            {"wait": str(wait)} if wait else {},
            {"If-None-Match": standing.etag} if standing.etag else {},
            seconds=wait,
        )
        try:
            answer = await self.exchange.ask(question, deadline)
        except RequestRefused as refused:
            if not any(error.parameter == "wait" for error in refused.errors):
                raise
            # It is set to let nobody wait so long: then it is asked as often as it says.
            self._longest_wait = 0
            return standing, 0.0
        unchanged = answer.status_code == httpx.codes.NOT_MODIFIED
        found = standing if unchanged else _standing(answer)
        is_new = not unchanged and found.etag not in (None, standing.etag)
        due = _LEAST_PAUSE if is_new else found.ask_after
        return found, due - (self.wire.clock() - began)

    async def listed(
        self, status: str | None = None, model: str | None = None, limit: int | None = None
    ) -> AsyncGenerator[JobSummary, None]:
        """The jobs of this key, newest first, `limit` at most; pages are fetched as needed."""
        params = {"limit": str(_PAGE)}
        params |= {"status": status} if status is not None else {}
        params |= {"model": model} if model is not None else {}
        left = limit
        while left is None or left > 0:
            if left is not None:
                params["limit"] = str(min(left, _PAGE))
            page = parsed(
                await self.exchange.ask(Question("GET", JOBS_PATH, dict(params))), JobList
            )
            for job in page.jobs[:left]:
                yield job
            left = None if left is None else left - len(page.jobs)
            if page.next_cursor is None:
                return
            params["cursor"] = page.next_cursor

    async def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job; what it is then. One that has ended stays as it is."""
        try:
            answer = await self.exchange.ask(Question("POST", f"{job_path(job_id)}/cancel"))
        except RequestRefused as refused:
            if refused.problem.type != ProblemType.ALREADY_ENDED.uri:
                raise
            return (await self.look(job_id)).job
        return parsed(answer, Job)

    async def delete(self, job_id: str) -> None:
        """Remove a job and its files for good; one that is gone stays gone."""
        try:
            await self.exchange.ask(Question("DELETE", job_path(job_id)))
        except JobGone:
            return

    async def pin(self, job_id: str, pinned: bool) -> None:
        """Keep a job's result, or let it go when its time has come."""
        method = "PUT" if pinned else "DELETE"
        await self.exchange.ask(Question(method, f"{job_path(job_id)}/pin"))

    async def artifacts(self, job_id: str) -> list[Artifact]:
        """Every file of a job that has succeeded."""
        question = Question("GET", f"{job_path(job_id)}/artifacts")
        return parsed(await self.exchange.ask(question), ArtifactList).artifacts

    # Catalogue and health

    async def models(self) -> ModelList:
        """What can be named in a request."""
        return parsed(await self.exchange.ask(Question("GET", MODELS_PATH)), ModelList)

    async def model(self, model_id: str) -> ModelDescription:
        """A model's layers, their mixers, and the methods that apply."""
        path = f"{MODELS_PATH}/{quote(model_id, safe='/')}"
        return parsed(await self.exchange.ask(Question("GET", path)), ModelDescription)

    async def health(self) -> Health:
        """Whether the service is alive, and its version."""
        return parsed(await self.exchange.ask(Question("GET", "/healthz")), Health)


def job_path(job_id: str) -> str:
    """The path of a job, whatever stands in its id."""
    return f"{JOBS_PATH}/{quote(job_id, safe='')}"


def _standing(answer: httpx.Response) -> Standing:
    after = retry_after(answer)
    after = _ASK_AFTER if after is None else min(after, _LONGEST_PAUSE)
    return Standing(parsed(answer, Job), after, answer.headers.get("ETag"))
