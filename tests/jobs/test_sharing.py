"""Equal jobs share one result, whatever happens to any of them."""

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from jobs import Terms, submission
from jobs.artifacts import ArtifactNotFound
from jobs.keys import Keys
from schemas.job import Progress, Shows
from schemas.names import ArtifactKind, Departure, Stage, Status
from schemas.problem import Problem, ProblemType
from tests.jobs.support import REQUEST, events, walk
from tests.jobs.test_queue import take

ALIKE = Terms(owner="me", fingerprint="f" * 64)
PROBLEM = Problem.of(ProblemType.OUT_OF_MEMORY, "ask for fewer layers")


def put(jobs, attempt, data=b"bytes"):
    return jobs.artifacts.writer(attempt).put(
        "a.png", data, ArtifactKind.FIGURE, "image/png", Shows()
    )


def bytes_of(jobs, job_id):
    stored = jobs.store.artifacts(job_id)
    return jobs.artifacts.read(stored.run_of, stored.token, "a.png")


def submit(jobs, terms=ALIKE):
    return jobs.submit(REQUEST, terms).id


def compute(jobs, job_id):
    attempt = jobs.store.start(job_id, "w")
    jobs.store.succeed(attempt, [put(jobs, attempt)])


def test_a_finished_result_is_served_at_once(jobs):
    first = submit(jobs)
    compute(jobs, first)
    second = jobs.submit(REQUEST, ALIKE)
    assert second.job.status is Status.SUCCEEDED
    assert second.job.reused_from == first
    assert second.job.finished_at is not None
    assert second.job.expires_at is not None
    assert bytes_of(jobs, second.id) == b"bytes"
    listed = jobs.store.artifacts(second.id).artifacts
    assert listed[0].href == f"/v1/jobs/{second.id}/artifacts/a.png"
    assert jobs.queue.waiting() == [first], "it asked for no worker"


def test_a_result_serves_for_as_long_as_any_job_holds_it(jobs):
    first = submit(jobs)
    compute(jobs, first)
    second = submit(jobs)
    jobs.remove(first, Departure.DELETED)
    third = jobs.submit(REQUEST, ALIKE).job
    assert third.status is Status.SUCCEEDED
    assert third.reused_from == first, "the job that computed it"
    jobs.remove(second, Departure.DELETED)
    assert bytes_of(jobs, third.id) == b"bytes"
    jobs.remove(third.id, Departure.DELETED)
    assert jobs.submit(REQUEST, ALIKE).job.status is Status.QUEUED


def test_jobs_in_flight_compute_once(jobs, settings):
    first, second, third = (submit(jobs) for _ in range(3))
    assert jobs.indexes.queued() == [first]
    assert jobs.queue.waiting() == [first]
    assert jobs.store.get(second).reused_from == first
    attempt = jobs.store.start(first, "w")
    jobs.store.progress(attempt, Progress(fraction=0.5, stage=Stage.TRACING, texts_done=1))
    shown = jobs.store.get(third)
    assert shown.status is Status.RUNNING
    assert shown.started_at == jobs.store.get(first).started_at
    assert shown.progress == jobs.store.get(first).progress
    jobs.store.succeed(attempt, [put(jobs, attempt)])
    assert jobs.store.get(second).status is Status.SUCCEEDED
    assert bytes_of(jobs, third) == b"bytes"
    told = events(jobs, settings, third)
    assert [event["status"] for event in told] == ["queued", "running", "running", "succeeded"]


def test_who_joins_a_running_job_is_shown_it_as_it_runs(jobs):
    first = submit(jobs)
    attempt = jobs.store.start(first, "w")
    jobs.store.progress(attempt, Progress(fraction=0.5, stage=Stage.TRACING, texts_done=1))
    runs, joined = jobs.store.get(first), jobs.submit(REQUEST, ALIKE).job
    assert (joined.status, joined.attempts) == (Status.RUNNING, 1)
    assert (joined.started_at, joined.progress) == (runs.started_at, runs.progress)


def test_others_may_not_share(jobs):
    first = submit(jobs)
    compute(jobs, first)
    for terms in (Terms(owner="you", fingerprint="f" * 64), Terms(owner="me")):
        assert jobs.submit(REQUEST, terms).job.status is Status.QUEUED


def test_a_failure_is_shared_by_those_in_flight_and_by_nobody_later(jobs):
    first, second = submit(jobs), submit(jobs)
    jobs.store.fail(jobs.store.start(first, "w"), PROBLEM)
    assert jobs.store.get(second).error == PROBLEM
    assert jobs.submit(REQUEST, ALIKE).job.status is Status.QUEUED


@pytest.mark.parametrize("end", ["cancel", "remove"])
@pytest.mark.parametrize("running", [False, True])
def test_the_first_follower_takes_over(jobs, end, running):
    first, second, third = (submit(jobs) for _ in range(3))
    attempt = jobs.store.start(first, "w") if running else None
    if end == "cancel":
        assert jobs.cancel(first) is Status.CANCELLED
    else:
        assert jobs.remove(first, Departure.DELETED)
    assert jobs.store.held([attempt] if attempt else []) == []
    assert jobs.indexes.queued() == [second]
    assert jobs.store.get(second).reused_from is None
    assert jobs.store.get(third).reused_from == second
    assert second in jobs.queue.waiting()
    compute(jobs, second)
    assert bytes_of(jobs, third) == b"bytes"


def test_where_too_many_follow_one_the_next_follow_another(jobs, monkeypatch):
    monkeypatch.setattr(submission, "_MOST_FOLLOWERS", 2)
    alike = [submit(jobs) for _ in range(8)]
    assert jobs.indexes.queued() == [alike[0], alike[3], alike[6]]
    assert jobs.store.get(alike[5]).reused_from == alike[3]
    compute(jobs, alike[0])
    # A result that is there serves, whatever is under way.
    assert jobs.submit(REQUEST, ALIKE).job.reused_from == alike[0]
    jobs.cancel(alike[3])
    compute(jobs, alike[6])
    compute(jobs, alike[4])
    assert jobs.submit(REQUEST, ALIKE).job.reused_from == alike[0]
    assert {jobs.store.get(one).status for one in alike} == {Status.SUCCEEDED, Status.CANCELLED}


def test_a_follower_that_is_cancelled_leaves_the_others_alone(jobs):
    first, second, third = (submit(jobs) for _ in range(3))
    assert jobs.cancel(second) is Status.CANCELLED
    compute(jobs, first)
    assert jobs.store.get(second).status is Status.CANCELLED
    assert jobs.store.artifacts(second) is None
    assert bytes_of(jobs, third) == b"bytes"


def test_bytes_go_with_the_last_that_holds_them(jobs):
    first = submit(jobs)
    compute(jobs, first)
    second = submit(jobs)
    run = jobs.store.artifacts(first)
    assert jobs.indexes.stored_bytes() == 5
    jobs.remove(first, Departure.DELETED)
    assert bytes_of(jobs, second) == b"bytes"
    assert jobs.indexes.stored_bytes() == 5
    jobs.remove(second, Departure.EXPIRED)
    with pytest.raises(ArtifactNotFound):
        jobs.artifacts.read(run.run_of, run.token, "a.png")
    assert jobs.indexes.stored_bytes() == 0


@dataclass
class Model:
    """What is known of each job from outside."""

    stays: dict[str, Status] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    pinned: set[str] = field(default_factory=set)
    attempts: dict[str, object] = field(default_factory=dict)


class Alike(RuleBasedStateMachine):
    """Many equal jobs that come, run, end, die, are pinned, cancelled and removed at any time."""

    def __init__(self, jobs, settings):
        super().__init__()
        self.jobs, self.store, self.keys = jobs, jobs.store, Keys(settings.key_prefix)
        self.model = Model()

    def pick(self, data, ids):
        return data.draw(st.sampled_from(sorted(ids)))

    @precondition(lambda self: len(self.model.stays) < 8)
    @rule(shared=st.booleans())
    def submit(self, shared):
        submitted = self.jobs.submit(REQUEST, ALIKE if shared else Terms(owner="me"))
        self.model.stays[submitted.id] = submitted.job.status

    @precondition(lambda self: self.jobs.indexes.first_queued())
    @rule()
    def start(self):
        assert take(self.jobs), "whoever is queued has a ticket"
        head = self.jobs.indexes.first_queued()
        self.model.attempts[head] = self.store.start(head, "w")

    @precondition(lambda self: self.model.attempts)
    @rule(data=st.data(), outcome=st.sampled_from(["succeed", "fail", "die", "progress"]))
    def run(self, data, outcome):
        job_id = self.pick(data, self.model.attempts)
        attempt = self.model.attempts[job_id]
        if outcome == "progress":
            self.store.progress(attempt, Progress(fraction=0.5))
            return
        del self.model.attempts[job_id]
        if outcome == "succeed":
            self.store.succeed(attempt, [put(self.jobs, attempt)])
        elif outcome == "fail":
            self.store.fail(attempt, PROBLEM)
        else:
            self.store.give_up(job_id, attempt.token, "SIGKILL", died=False)
            self.jobs.queue.submit(job_id, first=True)

    @precondition(lambda self: self.model.stays)
    @rule(data=st.data())
    def cancel(self, data):
        job_id = self.pick(data, self.model.stays)
        before = self.store.get(job_id).status
        after = self.jobs.cancel(job_id)
        assert after is (before if before.terminal else Status.CANCELLED)
        self.model.attempts.pop(job_id, None)

    @precondition(lambda self: self.model.stays)
    @rule(data=st.data(), why=st.sampled_from(Departure))
    def remove(self, data, why):
        job_id = self.pick(data, self.model.stays)
        kept = {Departure.EXPIRED: self.model.pinned, Departure.EVICTED: self.kept()}
        if job_id in kept.get(why, ()):
            assert not self.jobs.remove(job_id, why)
            return
        assert self.jobs.remove(job_id, why)
        assert not self.jobs.remove(job_id, why)
        self.model.pinned.discard(job_id)
        del self.model.stays[job_id]
        self.model.gone.add(job_id)
        self.model.attempts.pop(job_id, None)

    @precondition(lambda self: self.model.stays)
    @rule(data=st.data(), pinned=st.booleans())
    def pin(self, data, pinned):
        job_id = self.pick(data, self.model.stays)
        assert self.store.pin(job_id, pinned)
        (self.model.pinned.add if pinned else self.model.pinned.discard)(job_id)

    def runs(self):
        redis = self.jobs.redis
        run_of = {one: redis.hget(self.keys.record(one), "run") for one in self.model.stays}
        return {one: run for one, run in run_of.items() if run}

    def kept(self):
        """What is pinned, and what shares the bytes of such a job."""
        runs = self.runs()
        kept = {runs.get(one) for one in self.model.pinned}
        return self.model.pinned | {one for one, run in runs.items() if run in kept}

    @invariant()
    def what_ended_stays_as_it_was_and_what_succeeded_has_its_bytes(self):
        for job_id, before in self.model.stays.items():
            now = self.store.get(job_id).status
            assert not before.terminal or now is before
            self.model.stays[job_id] = now
            if now is Status.SUCCEEDED:
                assert bytes_of(self.jobs, job_id) == b"bytes"
        assert all(self.store.get(job_id) is None for job_id in self.model.gone)

    @invariant()
    def the_books_are_right(self):
        redis, keys = self.jobs.redis, self.keys
        queued = self.jobs.indexes.queued()
        assert int(redis.hget(keys.waiting, "me") or 0) == len(queued)
        assert len(self.jobs.queue.waiting()) >= len(queued)
        runs = set(self.runs().values())
        assert self.jobs.indexes.stored_bytes() == 5 * len(runs)
        assert all(redis.scard(keys.holders(run.decode())) for run in runs)
        assert redis.zcard(keys.owned("me")) == len(self.model.stays)
        ended = {one for one in self.model.stays if self.store.get(one).status.terminal}
        assert redis.zcard(keys.ended) == len(ended - self.model.pinned)
        spare = set(self.jobs.indexes.oldest(1000))
        assert set(self.runs()) - self.kept() <= spare <= set(self.runs()) - self.model.pinned
        assert redis.zcard(keys.running) == len(self.model.attempts)

    def teardown(self):
        """Whoever waits gets there in the end, and nothing is left when all are removed."""
        for attempt in self.model.attempts.values():
            self.store.succeed(attempt, [put(self.jobs, attempt)])
        while (head := self.jobs.indexes.first_queued()) is not None:
            compute(self.jobs, head)
        for job_id in self.model.stays:
            assert self.store.get(job_id).status.terminal
        for job_id in self.model.stays:
            self.jobs.remove(job_id, Departure.DELETED)
        assert self.jobs.indexes.stored_bytes() == 0
        # The one look at all keys of the server, which holds those of other tests too.
        left = self.jobs.redis.keys(f"{self.keys.prefix}:*")
        kinds = {key.decode().split(":")[1] for key in left}
        assert kinds <= {"job", "served", "stored", "places", "garbage", "departed"}
        self.jobs.redis.delete(*left, "none")
        self.jobs.queue.rq.empty()


def test_any_walk(jobs, settings):
    walk(lambda: Alike(jobs, settings), steps=25)
