"""The application: every route, every handler, and what they share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import CapacityLimiter
from fastapi import FastAPI

from jobs import open_jobs
from jobs.access.access_keys import AccessKeys
from jobs.access.limits import Limits
from jobs.events.feed import Feed
from schemas.settings import Settings
from schemas.version import package_version
from service.access.gate import Gate
from service.access.known_keys import KnownKeys
from service.context import Context
from service.following.lookup import JobLookup
from service.http.boundary import Boundary
from service.http.compression import Compression
from service.http.cors import Cors
from service.metrics import Metrics
from service.openapi.document import install_openapi
from service.problems import install_handlers
from service.routes import artifacts, events, health, methods, models, pages
from service.routes import jobs as job_routes
from service.versions import marked
from service.webhooks import Deliverer

_DESCRIPTION = (
    "Which tokens and which neurons made the model say this? POST texts and layers, poll the job, "
    "fetch the result, the figures and the tensors. Every error is a problem (RFC 9457) that says "
    "what to do."
)
_TAGS = [
    {"name": "jobs", "description": "Ask for an analysis and follow it"},
    {"name": "results", "description": "What a finished job left"},
    {"name": "models", "description": "What can be analysed"},
    {"name": "health", "description": "For load balancers and operators"},
]


def create_app(settings: Settings) -> FastAPI:
    """The service for one installation. Connects to the store when the first request needs it."""
    jobs = open_jobs(settings)
    feed = Feed(settings)
    metrics = Metrics(jobs)
    deliverer = Deliverer(settings)
    context = Context(
        settings, jobs, JobLookup(jobs.reader), feed, metrics, large_bodies=CapacityLimiter(1)
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with deliverer.running():
            yield
        feed.close()
        jobs.close()

    app = FastAPI(
        title="Mambascope",
        version=package_version(),
        description=_DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=_TAGS,
        # A trailing slash is another path: some clients lose a POST's body on a redirect.
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # Nothing here exports spans, and looking whether anybody does costs a poll a tenth.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    _add_middleware(app, context)
    install_handlers(app)
    install_openapi(app)
    context.attach(app)
    # Streams have no end of their own that a server which stops could wait for.
    app.state.end_streams = feed.close
    for module in (job_routes, events, artifacts, models, methods, health, pages):
        # `include_router` would look for the route of each request twice.
        app.router.routes.extend(marked(module.router.routes))
    return app


def _add_middleware(app: FastAPI, context: Context) -> None:
    """What every request passes; the last added is the outermost."""
    settings, redis = context.settings, context.jobs.redis
    app.add_middleware(Compression)
    known = KnownKeys(AccessKeys(redis, settings), closed=settings.must_ask_for_keys)
    app.add_middleware(Gate, known=known, limits=Limits(redis, settings))
    cors = Cors(settings.cors_origins)
    app.add_middleware(Boundary, answered=context.metrics.answered, cors=cors)
