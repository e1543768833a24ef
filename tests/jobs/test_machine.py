"""Random walks through the life of a job, against a model of the transition table."""

from dataclasses import dataclass, field

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jobs import Attempt, StaleAttempt
from jobs.keys import Keys
from schemas.job import Progress
from schemas.names import Stage, Status
from schemas.problem import Problem, ProblemType
from tests.jobs.support import REQUEST, events, walk

PROBLEM = Problem.of(ProblemType.OUT_OF_MEMORY, "ask for fewer layers")


@dataclass
class Model:
    """What the record must say."""

    status: Status = Status.QUEUED
    attempts: int = 0
    deaths: int = 0
    fraction: float = 0.0
    holder: Attempt | None = None
    zombies: list[Attempt] = field(default_factory=list)


class JobLife(RuleBasedStateMachine):
    def __init__(self, jobs, settings):
        super().__init__()
        self.jobs, self.settings, self.store = jobs, settings, jobs.store
        self.keys = Keys(settings.key_prefix)
        self.job_id = self.store.create(REQUEST)
        self.model = Model()

    @rule()
    def start(self):
        attempt = self.store.start(self.job_id, "worker")
        if self.model.status is not Status.QUEUED:
            assert attempt is None
            return
        self.model.attempts += 1
        assert attempt.number == self.model.attempts
        self.model.status, self.model.holder = Status.RUNNING, attempt
        self.model.fraction = 0.0

    @rule(fraction=st.floats(0, 1), stage=st.sampled_from(Stage))
    def progress(self, fraction, stage):
        assume(self.model.status is Status.RUNNING)
        self.store.progress(self.model.holder, Progress(fraction=fraction, stage=stage))
        self.model.fraction = max(self.model.fraction, fraction)

    @rule()
    def renew(self):
        assume(self.model.status is Status.RUNNING)
        self.store.renew(self.model.holder)

    @rule()
    def succeed(self):
        assume(self.model.status is Status.RUNNING)
        self.store.succeed(self.model.holder, [])
        self.model.status, self.model.fraction = Status.SUCCEEDED, 1.0

    @rule()
    def fail(self):
        assume(self.model.status is Status.RUNNING)
        self.store.fail(self.model.holder, PROBLEM)
        self.model.status = Status.FAILED

    @rule(named=st.booleans(), died=st.booleans())
    def give_up(self, named, died):
        holder = self.model.holder
        token = holder.token if named and holder else None
        status = self.store.give_up(self.job_id, token, "SIGSEGV", died=died)
        if self.model.status is not Status.RUNNING:
            assert status is None
            return
        self.model.deaths += died
        last = died and self.model.deaths >= self.settings.max_deaths
        self.model.status = Status.FAILED if last else Status.QUEUED
        assert status is self.model.status
        self.model.zombies.append(holder)
        self.model.holder = None
        if not last:
            self.model.fraction = 0.0

    @rule(data=st.data())
    def zombie(self, data):
        assume(self.model.zombies)
        attempt = data.draw(st.sampled_from(self.model.zombies))
        writes = [
            lambda: self.store.progress(attempt, Progress(fraction=1.0)),
            lambda: self.store.renew(attempt),
            lambda: self.store.succeed(attempt, []),
            lambda: self.store.fail(attempt, PROBLEM),
        ]
        for write in writes:
            with pytest.raises(StaleAttempt):
                write()
        assert self.store.give_up(self.job_id, attempt.token, "SIGKILL") is None

    @invariant()
    def the_record_says_what_the_model_says(self):
        job = self.store.get(self.job_id)
        assert job.status is self.model.status
        assert job.attempts == self.model.attempts
        assert job.progress.fraction == self.model.fraction
        assert (job.error is not None) == (job.status is Status.FAILED)
        assert (job.finished_at is not None) == job.status.terminal
        assert (job.started_at is None) == (job.status is Status.QUEUED)
        assert (self.job_id in self.jobs.indexes.queued()) == (job.status is Status.QUEUED)
        assert (self.store.artifacts(self.job_id) is None) == (job.status is not Status.SUCCEEDED)

    @invariant()
    def only_a_running_job_has_a_lease_and_only_its_holder_the_token(self):
        leased = self.jobs.redis.zscore(self.keys.running, self.job_id) is not None
        assert leased == (self.model.status is Status.RUNNING)
        token = self.jobs.redis.hget(self.keys.record(self.job_id), "token").decode()
        assert token == (self.model.holder.token if self.model.holder else "")

    def teardown(self):
        """Exactly one end, and every event in order."""
        told = events(self.jobs, self.settings, self.job_id)
        assert [int(event["revision"]) for event in told] == list(range(1, len(told) + 1))
        ends = [event for event in told if Status(event["status"]).terminal]
        assert len(ends) == (1 if self.model.status.terminal else 0)
        assert told[-1]["status"] == self.model.status


def test_any_walk(jobs, settings):
    walk(lambda: JobLife(jobs, settings), steps=20)
