"""What every route needs, opened once and found by each request."""

from dataclasses import dataclass

from anyio import CapacityLimiter
from fastapi import FastAPI, Request

from jobs import Jobs
from jobs.events.feed import Feed
from schemas.settings import Settings
from service.following.lookup import JobLookup
from service.metrics import Metrics


@dataclass(frozen=True)
class Context:
    """The settings of this process, its open jobs, and what requests share."""

    settings: Settings
    jobs: Jobs
    lookup: JobLookup
    feed: Feed
    metrics: Metrics
    large_bodies: CapacityLimiter
    """Lets large bodies be read one at a time."""

    def attach(self, app: FastAPI) -> None:
        """Make this the context of every request to the application."""
        app.state.context = self


def context_of(request: Request) -> Context:
    """The context of the application that a request was sent to."""
    context: Context = request.app.state.context
    return context
