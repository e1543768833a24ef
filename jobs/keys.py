"""Every Redis key of ours, in one place. RQ's own keys live under RQ's own names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """The keys of one installation; two prefixes never see each other's jobs."""

    prefix: str

    def record(self, job_id: str) -> str:
        """Hash: everything known about one job."""
        return f"{self.prefix}:job:{job_id}"

    def events(self, job_id: str) -> str:
        """Stream: what happened to one job, in order."""
        return f"{self.prefix}:events:{job_id}"

    @property
    def queued(self) -> str:
        """Sorted set: queued job ids by the order in which they were accepted."""
        return f"{self.prefix}:queued"

    @property
    def running(self) -> str:
        """Sorted set: running job ids by the end of their lease, server milliseconds."""
        return f"{self.prefix}:running"

    @property
    def garbage(self) -> str:
        """Sorted set: `job/token` of dead attempts by when their bytes may go for good."""
        return f"{self.prefix}:garbage"

    @property
    def missing(self) -> str:
        """Sorted set: queued job ids without an RQ job, by when that was first seen."""
        return f"{self.prefix}:missing"

    @property
    def sequence(self) -> str:
        """Counter: how many jobs were accepted so far."""
        return f"{self.prefix}:sequence"

    @property
    def workers(self) -> str:
        """Set: names of workers that announced themselves."""
        return f"{self.prefix}:workers"

    def worker(self, name: str) -> str:
        """String that expires: what one worker last said about itself."""
        return f"{self.prefix}:worker:{name}"
