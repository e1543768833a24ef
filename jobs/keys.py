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
    def changes(self) -> str:
        """Channel: every event of every job, as JSON."""
        return f"{self.prefix}:changes"

    @property
    def places(self) -> str:
        """Hash: the last place in the queue that each caller was given."""
        return f"{self.prefix}:places"

    @property
    def served(self) -> str:
        """Number: the furthest place of a job that was started."""
        return f"{self.prefix}:served"

    @property
    def waiting(self) -> str:
        """Hash: how many jobs of each owner are queued."""
        return f"{self.prefix}:waiting"

    def owned(self, owner: str) -> str:
        """Sorted set: the ids of an owner's jobs, all at 0, so by their names and thus by age."""
        return f"{self.prefix}:owned:{owner}"

    @property
    def ended(self) -> str:
        """Sorted set: ended jobs that are not pinned, by since when that is so, server ms."""
        return f"{self.prefix}:ended"

    @property
    def spare(self) -> str:
        """Sorted set: those of `ended` whose bytes may make room, by their end.

        Also some whose bytes a pinned job keeps, until an eviction meets them.
        """
        return f"{self.prefix}:spare"

    @property
    def departed(self) -> str:
        """Hash: how many jobs were ever deleted, expired and evicted."""
        return f"{self.prefix}:departed"

    @property
    def outbox(self) -> str:
        """Sorted set: jobs whose webhook is to be sent, by when, server milliseconds."""
        return f"{self.prefix}:outbox"

    @property
    def stored(self) -> str:
        """Number: bytes of all artifacts that some job holds."""
        return f"{self.prefix}:stored"

    def holders(self, run: str) -> str:
        """Set: jobs that share the bytes of one run, `job/token`."""
        return f"{self.prefix}:holders:{run}"

    def followers(self, job_id: str) -> str:
        """Set: equal jobs that wait for what becomes of this one."""
        return f"{self.prefix}:followers:{job_id}"

    def equal(self, owner: str, fingerprint: str) -> str:
        """String: the owner's job whose result serves for all that have this fingerprint."""
        return f"{self.prefix}:equal:{owner}:{fingerprint}"

    def once(self, owner: str, key: str) -> str:
        """String that expires: the job that an idempotency key made, and the digest of its body."""
        return f"{self.prefix}:once:{owner}:{key}"

    @property
    def costs(self) -> str:
        """Hash: what kinds of work were measured to take on which machine."""
        return f"{self.prefix}:costs"

    @property
    def workers(self) -> str:
        """Set: names of workers that announced themselves."""
        return f"{self.prefix}:workers"

    def worker(self, name: str) -> str:
        """String that expires: what one worker last said about itself."""
        return f"{self.prefix}:worker:{name}"

    @property
    def access(self) -> str:
        """Hash: what each API key that was ever made is, by its id."""
        return f"{self.prefix}:access"

    @property
    def access_revoked(self) -> str:
        """Hash: when API keys were revoked, by id."""
        return f"{self.prefix}:access_revoked"

    @property
    def access_used(self) -> str:
        """Hash: when API keys were last used, to a minute, by id."""
        return f"{self.prefix}:access_used"

    def requests(self, owner: str) -> str:
        """List that expires: when a key's requests of the last minute came, oldest first."""
        return f"{self.prefix}:requests:{owner}"

    def tokens(self, owner: str, day: int) -> str:
        """Number that expires: tokens that a limited key has spent on a day of UTC since 1970."""
        return f"{self.prefix}:tokens:{owner}:{day}"
