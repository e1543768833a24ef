"""Whether the service is alive, and whether it can do its work."""

from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI, Response
from redis.exceptions import RedisError

from schemas.catalogue import Health, Readiness
from schemas.problem import FieldError, ProblemError, ProblemType
from service.context import Context
from service.openapi import problems, success
from service.routes.jobs import JSON

_NO_STORE = {"Cache-Control": "no-store"}


def package_version() -> str:
    """The installed version, or `0+source` when run from a checkout that is not installed."""
    try:
        return version("mambascope")
    except PackageNotFoundError:
        return "0+source"


def add_routes(app: FastAPI, context: Context) -> None:
    """Add the routes of health to the application."""
    alive = Health(version=package_version()).model_dump_json()

    @app.get(
        "/healthz",
        response_class=Response,
        tags=["health"],
        responses={200: success("The process answers", "Health", "health"), **problems()},
    )
    async def healthz() -> Response:
        """Whether this process answers at all. Asks nothing else."""
        return Response(alive, 200, _NO_STORE, JSON)

    @app.get(
        "/readyz",
        response_class=Response,
        tags=["health"],
        responses={
            200: success("A job sent now would run", "Readiness", "readiness"),
            **problems(ProblemType.UNAVAILABLE),
        },
    )
    def readyz() -> Response:
        """Whether a job sent now would run: the store answers and a worker is ready."""
        workers, missing = _workers(context)
        if missing:
            names = " and ".join(entry.pointer.removeprefix("/") for entry in missing)
            raise ProblemError(ProblemType.UNAVAILABLE, f"Missing: {names}.", missing)
        ready = Readiness(store="answers", workers=workers)
        return Response(ready.model_dump_json(), 200, _NO_STORE, JSON)


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
