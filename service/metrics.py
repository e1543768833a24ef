"""Numbers for Prometheus: what this process answered, and how the installation's jobs stand."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from jobs import Jobs

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What one process counts, and what it asks the store when it is scraped."""

    def __init__(self, jobs: Jobs) -> None:
        self._requests = _Requests()
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._registry.register(_Standing(jobs))
        self._registry.register(self._requests)
        self.answered = self._requests.count

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format. Raises RedisError."""
        return generate_latest(self._registry)


class _Requests(Collector):
    """Requests answered and how long they took. For one event loop, which needs no locks."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._seconds: dict[tuple[str, str], list[float]] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. `route` is the path's template, so that there are few."""
        self._counts[method, route, status] += 1
        known = self._seconds.get((method, route))
        if known is None:
            known = self._seconds[method, route] = [0.0] * (len(_SECONDS) + 2)
        known[bisect_left(_SECONDS, seconds)] += 1
        known[-1] += seconds

    def describe(self) -> list[Metric]:
        """Nothing beforehand."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The counts as they are now."""
        requests = CounterMetricFamily(
            "mambascope_requests", "Requests answered", labels=["method", "route", "status"]
        )
        for (method, route, status), count in list(self._counts.items()):
            requests.add_metric([method, route, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "mambascope_request_seconds",
            "From a request's arrival to the end of its answer, streams and waits among them",
            labels=["method", "route"],
        )
        bounds = [*map(str, _SECONDS), "+Inf"]
        for (method, route), (*counts, total) in list(self._seconds.items()):
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            seconds.add_metric([method, route], buckets, total)
        yield seconds


class _Standing(Collector):
    """How the jobs stand, read when it is asked for."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing beforehand: it would ask the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The gauges as they are now."""
        standing = self._jobs.indexes.census()
        jobs = GaugeMetricFamily("mambascope_jobs", "Jobs by where they stand", labels=["state"])
        for state, count in standing.jobs.items():
            jobs.add_metric([state], count)
        yield jobs
        removed = CounterMetricFamily(
            "mambascope_jobs_removed", "Jobs that are there no more", labels=["why"]
        )
        for why, count in standing.departed.items():
            removed.add_metric([why], count)
        yield removed
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
