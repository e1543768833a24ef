"""Every error as application/problem+json (RFC 9457)."""

from collections.abc import Mapping

import structlog
from fastapi import FastAPI, Request, Response
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from schemas.problem import Problem, ProblemError, ProblemType
from service.responses import NO_STORE, POLL_AFTER
from service.versions import VERSIONS, unknown_version

MEDIA_TYPE = "application/problem+json"

# Seconds until the store or a worker may be back, and until a waiting job may have started. Where a
# limit says itself when there is more, that is told instead.
_UNAVAILABLE_AFTER = 5
_QUEUE_MOVES_AFTER = 5
_RETRY_AFTER = {
    ProblemType.NOT_FINISHED.uri: POLL_AFTER,
    ProblemType.UNAVAILABLE.uri: _UNAVAILABLE_AFTER,
    ProblemType.QUEUE_LIMIT.uri: _QUEUE_MOVES_AFTER,
}

_log = structlog.get_logger("service.problems")


def problem_response(
    problem: Problem, headers: Mapping[str, str] | None = None, retry_after: int | None = None
) -> Response:
    """The problem as a response, with Retry-After where asking again may help.

    `retry_after` is in seconds; None: as long as a problem of this type takes to pass.
    """
    sent = NO_STORE | dict(headers or {})
    seconds = _RETRY_AFTER.get(problem.type) if retry_after is None else retry_after
    if seconds is not None:
        sent["Retry-After"] = str(seconds)
    return Response(problem.model_dump_json(), problem.status, sent, MEDIA_TYPE)


def internal_problem(request_id: str) -> Problem:
    """What a client is told of a bug: where the operator finds it, and nothing of its insides."""
    return Problem.of(
        ProblemType.INTERNAL,
        f"This is not your request's fault. The operator's log has the cause under {request_id}.",
    )


def install_handlers(app: FastAPI) -> None:
    """Render every expected failure of a route as a problem."""
    app.add_exception_handler(ProblemError, _expected)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(RedisError, _store_down)


# The handlers are coroutines so that no thread is taken for rendering an error.


async def _expected(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    headers = {"Connection": "close"} if error.kind is ProblemType.BODY_TOO_LARGE else {}
    return problem_response(error.problem, headers, error.retry_after)


async def _routing(request: Request, error: Exception) -> Response:
    """No such path, or no such method on it."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == ProblemType.METHOD_NOT_ALLOWED.status:
        allowed = ", ".join(sorted(_allowed(request)))
        detail = f"`{path}` does not take {request.method}. Use {allowed}."
        problem = Problem.of(ProblemType.METHOD_NOT_ALLOWED, detail)
        return problem_response(problem, {"Allow": allowed})
    detail = f"There is nothing at `{path}`. /docs lists every path."
    if version := unknown_version(path):
        known = " and ".join(f"`{name}`" for name in VERSIONS)
        detail = f"This API has no version `{version}`. There is {known}: /docs lists every path."
    return problem_response(Problem.of(ProblemType.NOT_FOUND, detail))


def _allowed(request: Request) -> set[str]:
    """The methods that some route takes at the request's path."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", set())
    return found | ({"HEAD"} if "GET" in found else set())


async def _store_down(request: Request, error: Exception) -> Response:
    return store_down(error)


def store_down(error: Exception) -> Response:
    """Say that the job store does not answer."""
    _log.error("store does not answer", error=f"{type(error).__name__}: {error}")
    detail = f"The job store does not answer. Ask again in {_UNAVAILABLE_AFTER} seconds."
    return problem_response(Problem.of(ProblemType.UNAVAILABLE, detail))
