"""Numbers for Prometheus: what this process answered, and how the installation's jobs stand."""

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from jobs import Jobs

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What one process counts, and what it asks the store when it is scraped."""

    def __init__(self, jobs: Jobs) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._registry.register(_Standing(jobs))
        labels = ("method", "route", "status")
        self._requests = Counter(
            "mambascope_requests", "Requests answered", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "mambascope_request_seconds",
            "From a request's arrival to the end of its answer",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. `route` is the path's template, so that there are few."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format. Raises RedisError."""
        return generate_latest(self._registry)


class _Standing(Collector):
    """How the jobs stand, read when it is asked for."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing beforehand: it would ask the store."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges as they are now."""
        standing = self._jobs.store.census()
        jobs = GaugeMetricFamily("mambascope_jobs", "Jobs by where they stand", labels=["state"])
        for state, count in standing.jobs.items():
            jobs.add_metric([state], count)
        yield jobs
        yield GaugeMetricFamily(
            "mambascope_stored_bytes", "Bytes of all artifacts", standing.stored_bytes
        )
        yield GaugeMetricFamily(
            "mambascope_webhooks_due", "Jobs whose webhook is still to arrive", standing.webhooks
        )
        alive = self._jobs.presence.alive()
        workers = GaugeMetricFamily("mambascope_workers", "Workers alive", labels=["ready"])
        workers.add_metric(["true"], sum(worker.ready for worker in alive))
        workers.add_metric(["false"], sum(not worker.ready for worker in alive))
        yield workers
