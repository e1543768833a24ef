"""Whether the service is alive, and whether it can do its work."""

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from redis.exceptions import RedisError

from schemas.catalogue import Health, Readiness
from schemas.problem import FieldError, ProblemError, ProblemType
from schemas.version import package_version
from service.context import Context, context_of
from service.openapi.answers import problems, success
from service.responses import NO_STORE, json_response
from service.routes import new_router

router = new_router(tags=["health"])

_ALIVE = Health(version=package_version()).model_dump_json()


@router.get(
    "/healthz",
    responses={200: success("The process answers", "Health", "health"), **problems()},
)
async def healthz() -> Response:
    """Whether this process answers at all. Asks nothing else."""
    return json_response(_ALIVE, NO_STORE)


@router.get(
    "/readyz",
    responses={
        200: success("A job sent now would run", "Readiness", "readiness"),
        **problems(ProblemType.UNAVAILABLE),
    },
)
def readyz(request: Request) -> Response:
    """Whether a job sent now would run: the store answers and a worker is ready."""
    workers, missing = _workers(context_of(request))
    if missing:
        names = " and ".join(entry.pointer.removeprefix("/") for entry in missing)
        raise ProblemError(ProblemType.UNAVAILABLE, f"Missing: {names}.", missing)
    return json_response(Readiness(workers=workers), NO_STORE)


@router.get(
    "/metrics",
    responses={
        200: {
            "description": "Prometheus' text format",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problems(ProblemType.UNAVAILABLE),
    },
)
def metrics(request: Request) -> Response:
    """What this process answered and how the jobs stand, for Prometheus."""
    return Response(
        context_of(request).metrics.exposition(), 200, NO_STORE, CONTENT_TYPE_PLAIN_0_0_4
    )


def _workers(context: Context) -> tuple[int, list[FieldError]]:
    """How many workers are ready, and what is missing for a job to run."""
    try:
        alive = context.jobs.presence.alive()
    except RedisError:
        detail = "The job store does not answer: start Redis or Valkey, or mend the URL to it."
        return 0, [FieldError(pointer="/store", detail=detail)]
    ready = sum(worker.ready for worker in alive)
    if ready:
        return ready, []
    starting = f" ({len(alive)} alive, none ready yet)" if alive else ""
    detail = f"No worker is ready{starting}: start one with `mambascope worker`."
    return 0, [FieldError(pointer="/workers", detail=detail)]
