import threading
from datetime import UTC, datetime, timedelta

import pytest

from jobs import Attempt, StaleAttempt
from jobs.identity import JobIds
from jobs.keys import Keys
from schemas.job import Artifact, Progress
from schemas.names import ArtifactKind, Stage, Status
from schemas.problem import Problem, ProblemType
from tests.jobs.support import REQUEST, events, hasty

PROBLEM = Problem.of(ProblemType.TRACE_MISMATCH, "layer 1 is off by 0.2")
ARTIFACT = Artifact(
    name="result.json",
    kind=ArtifactKind.RESULT,
    media_type="application/json",
    size=2,
    sha256="0" * 64,
)


@pytest.fixture
def store(jobs):
    return jobs.store


@pytest.fixture
def indexes(jobs):
    return jobs.indexes


@pytest.fixture
def running(store) -> Attempt:
    attempt = store.start(store.create(REQUEST), "worker-1")
    assert attempt is not None
    return attempt


def write_everything(store, attempt):
    """Every write of an attempt must be refused, one by one."""
    with pytest.raises(StaleAttempt):
        store.progress(attempt, Progress(fraction=0.9, stage=Stage.STORING))
    with pytest.raises(StaleAttempt):
        store.renew(attempt)
    with pytest.raises(StaleAttempt):
        store.succeed(attempt, [ARTIFACT])
    with pytest.raises(StaleAttempt):
        store.fail(attempt, PROBLEM)


def test_created(store):
    before = datetime.now(UTC)
    job_id = store.create(REQUEST)
    job = store.get(job_id)
    assert job.id == job_id
    assert job.status is Status.QUEUED
    assert job.request == REQUEST
    assert job.attempts == 0
    assert job.queue_position == 0
    assert job.started_at is None
    assert job.finished_at is None
    assert job.error is None
    assert job.progress == Progress()
    assert job.created_at.utcoffset() == timedelta(0)
    # The server's clock is this machine's clock here; it truncates to milliseconds.
    assert abs(job.created_at - before) < timedelta(seconds=30)
    assert job.links.self == f"/v1/jobs/{job_id}"
    assert job.links.result == f"/v1/jobs/{job_id}/result"
    assert job.links.artifacts == f"/v1/jobs/{job_id}/artifacts"
    assert store.artifacts(job_id) is None


def test_started(store):
    job_id = store.create(REQUEST)
    attempt = store.start(job_id, "worker-1")
    assert attempt.job_id == job_id
    assert attempt.number == 1
    assert attempt.request == REQUEST
    job = store.get(job_id)
    assert job.status is Status.RUNNING
    assert job.attempts == 1
    assert job.queue_position is None
    assert job.created_at <= job.started_at
    assert job.finished_at is None


def test_a_running_job_cannot_be_started(store, running):
    assert store.start(running.job_id, "worker-2") is None
    assert store.get(running.job_id).attempts == 1


def test_of_racing_workers_one_starts_the_job(store):
    job_id = store.create(REQUEST)
    barrier = threading.Barrier(12)
    taken = []

    def race(number):
        barrier.wait()
        taken.append(store.start(job_id, f"worker-{number}"))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 12
    assert len([attempt for attempt in taken if attempt]) == 1
    assert store.get(job_id).attempts == 1


def test_progress(store, running):
    store.progress(running, Progress(fraction=0.25, stage=Stage.TRACING, detail="text 1 of 4 …"))
    assert store.get(running.job_id).progress == Progress(
        fraction=0.25, stage=Stage.TRACING, detail="text 1 of 4 …"
    )


def test_the_fraction_never_falls(store, running):
    store.progress(running, Progress(fraction=0.5, stage=Stage.TRACING))
    store.progress(running, Progress(fraction=0.1 + 0.2, stage=Stage.DRAWING))
    progress = store.get(running.job_id).progress
    assert progress.fraction == 0.5
    assert progress.stage is Stage.DRAWING
    store.progress(running, Progress(fraction=1 / 1.5, stage=Stage.DRAWING))
    assert store.get(running.job_id).progress.fraction == 1 / 1.5


def test_succeeded(store, running):
    store.succeed(running, [ARTIFACT])
    job = store.get(running.job_id)
    assert job.status is Status.SUCCEEDED
    assert job.finished_at >= job.started_at
    assert job.progress == Progress(fraction=1.0)
    stored = store.artifacts(running.job_id)
    assert stored.token == running.token
    assert stored.job_id == running.job_id
    href = f"/v1/jobs/{running.job_id}/artifacts/result.json"
    assert stored.artifacts == [ARTIFACT.model_copy(update={"href": href})]


def test_failed(store, running):
    store.progress(running, Progress(fraction=0.5))
    store.fail(running, PROBLEM)
    job = store.get(running.job_id)
    assert job.status is Status.FAILED
    assert job.error == PROBLEM
    assert job.finished_at >= job.started_at
    assert job.progress.fraction == 0.5
    assert store.artifacts(running.job_id) is None


@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_an_ended_job_stays_as_it_is(store, indexes, running, end):
    """The same end may be reported again, as after a lost answer; anything else is refused."""
    ends = {
        "succeed": lambda: store.succeed(running, [ARTIFACT]),
        "fail": lambda: store.fail(running, PROBLEM),
    }
    ends[end]()
    ended = store.get(running.job_id)
    ends[end]()
    assert store.get(running.job_id) == ended
    other = ends["fail" if end == "succeed" else "succeed"]
    with pytest.raises(StaleAttempt):
        other()
    with pytest.raises(StaleAttempt):
        store.progress(running, Progress(fraction=0.9))
    with pytest.raises(StaleAttempt):
        store.renew(running)
    assert store.start(running.job_id, "worker-2") is None
    assert store.give_up(running.job_id, running.token, "SIGKILL") is None
    assert store.give_up(running.job_id, None, "SIGKILL") is None
    assert store.get(running.job_id) == ended
    assert list(indexes.lost()) == []


def test_a_given_up_job_is_queued_again(store, running):
    store.progress(running, Progress(fraction=0.5, stage=Stage.TRACING, detail="deep in it"))
    assert store.give_up(running.job_id, running.token, "SIGKILL") is Status.QUEUED
    job = store.get(running.job_id)
    assert job.status is Status.QUEUED
    assert job.attempts == 1
    assert job.started_at is None
    assert job.progress == Progress()
    assert job.queue_position == 0
    second = store.start(running.job_id, "worker-2")
    assert second.number == 2
    assert second.token != running.token
    assert second.request == REQUEST


def test_a_given_up_job_keeps_its_place(store, indexes):
    first, second, third = (store.create(REQUEST) for _ in range(3))
    attempt = store.start(first, "worker-1")
    assert [store.get(one).queue_position for one in (second, third)] == [0, 1]
    store.give_up(first, attempt.token, "SIGKILL")
    assert [store.get(one).queue_position for one in (first, second, third)] == [0, 1, 2]
    assert indexes.queued() == [first, second, third]


def test_a_zombie_writes_nothing(store, running):
    store.give_up(running.job_id, running.token, "SIGKILL")
    write_everything(store, running)
    assert store.get(running.job_id).status is Status.QUEUED

    second = store.start(running.job_id, "worker-2")
    write_everything(store, running)
    job = store.get(running.job_id)
    assert job.status is Status.RUNNING
    assert job.progress == Progress()

    store.succeed(second, [])
    write_everything(store, running)
    assert store.artifacts(running.job_id).token == second.token


def test_only_the_holder_is_given_up(store, running):
    assert store.give_up(running.job_id, "f" * 24, "SIGKILL") is None
    store.renew(running)
    assert store.give_up(running.job_id, None, "SIGKILL") is Status.QUEUED
    assert store.give_up(running.job_id, None, "SIGKILL") is None


def test_a_stop_is_no_death(store, settings):
    job_id = store.create(REQUEST)
    for number in range(1, settings.max_deaths + 2):
        attempt = store.start(job_id, f"worker-{number}")
        status = store.give_up(job_id, attempt.token, "the worker was stopped", died=False)
        assert status is Status.QUEUED
    attempt = store.start(job_id, "worker")
    assert store.give_up(job_id, attempt.token, "SIGKILL") is Status.QUEUED
    assert store.get(job_id).attempts == settings.max_deaths + 2


def test_the_last_death_fails_the_job(store, indexes, settings):
    job_id = store.create(REQUEST)
    for number in range(1, settings.max_deaths + 1):
        attempt = store.start(job_id, f"worker-{number}")
        status = store.give_up(job_id, attempt.token, f"killed by signal {number}")
        last = number == settings.max_deaths
        assert status is (Status.FAILED if last else Status.QUEUED)
    job = store.get(job_id)
    assert job.status is Status.FAILED
    assert job.attempts == settings.max_deaths
    assert job.error.type == ProblemType.WORKER_LOST.uri
    assert f"killed by signal {settings.max_deaths}" in job.error.detail
    assert job.finished_at is not None
    assert indexes.queued() == []
    write_everything(store, attempt)


def test_leases(store, indexes, settings, running):
    patient, hurried = store, hasty(settings)
    impatient = hurried.store
    assert list(indexes.lost()) == []
    assert patient.give_up(running.job_id, running.token, "x", expired_only=True) is None

    impatient.renew(running)
    assert list(hurried.indexes.lost()) == [(running.job_id, running.token)]

    patient.renew(running)
    assert list(hurried.indexes.lost()) == []

    impatient.progress(running, Progress(fraction=0.1))
    assert list(hurried.indexes.lost()) == [(running.job_id, running.token)]
    status = impatient.give_up(running.job_id, running.token, "x", expired_only=True)
    assert status is Status.QUEUED
    assert list(hurried.indexes.lost()) == []


def test_no_one_is_lost_just_after_the_server_came_up(settings, jobs, running):
    jobs.redis.zadd(Keys(settings.key_prefix).running, {running.job_id: 1})
    assert list(hasty(settings, lease_seconds=10**7).indexes.lost()) == []
    assert list(hasty(settings).indexes.lost()) == [(running.job_id, running.token)]


def test_a_job_that_has_just_ended_is_not_lost(store, settings, jobs, running):
    """As when the job ends between the two reads that find lost jobs."""
    store.give_up(running.job_id, running.token, "SIGKILL")
    jobs.redis.zadd(Keys(settings.key_prefix).running, {running.job_id: 1})
    assert list(hasty(settings).indexes.lost()) == []


def test_a_start_whose_answer_was_lost_can_be_repeated(store, settings, monkeypatch):
    monkeypatch.setattr("jobs.store.new_token", lambda: "ab" * 12)
    job_id = store.create(REQUEST)
    first = store.start(job_id, "worker-1")
    assert store.start(job_id, "worker-1") == first
    assert store.get(job_id).attempts == 1


def test_a_creation_whose_answer_was_lost_can_be_repeated(store, indexes, jobs):
    job_id = store.new_id()
    store.stage_create(jobs.redis, job_id, REQUEST)
    attempt = store.start(job_id, "worker-1")
    store.stage_create(jobs.redis, job_id, REQUEST)
    store.renew(attempt)
    assert indexes.queued() == []


@pytest.mark.parametrize(
    "job_id", ["", "nonsense", "../x", "a\nb", "*", "\ud800", "\x00" * 26, "0" * 26, "ü" * 26]
)
def test_ids_that_name_no_job(store, job_id):
    assert store.get(job_id) is None
    assert store.artifacts(job_id) is None
    assert store.start(job_id, "worker-1") is None
    assert store.give_up(job_id, None, "SIGKILL") is None


def test_writes_to_a_job_that_is_not_there(store):
    write_everything(store, Attempt(JobIds().next(), "ab" * 12, 1, REQUEST))


def test_events_tell_every_change_in_order(store, jobs, settings, running):
    store.progress(running, Progress(fraction=0.5, stage=Stage.TRACING, detail="text 1"))
    store.renew(running)
    store.give_up(running.job_id, running.token, "SIGKILL")
    second = store.start(running.job_id, "worker-2")
    store.succeed(second, [])
    store.succeed(second, [])
    with pytest.raises(StaleAttempt):
        store.fail(running, PROBLEM)
    told = events(jobs, settings, running.job_id)
    assert [(event["type"], event["status"], event["attempts"]) for event in told] == [
        ("status", "queued", "0"),
        ("status", "running", "1"),
        ("progress", "running", "1"),
        ("status", "queued", "1"),
        ("status", "running", "2"),
        ("status", "succeeded", "2"),
    ]
    assert [event["revision"] for event in told] == ["1", "2", "3", "4", "5", "6"]
    assert (told[2]["fraction"], told[2]["stage"], told[2]["detail"]) == (
        "0.5",
        "tracing",
        "text 1",
    )
    job = store.get(running.job_id)
    assert datetime.fromisoformat(told[0]["at"]) == job.created_at
    assert datetime.fromisoformat(told[-1]["at"]) == job.finished_at


def test_the_stream_of_a_chatty_job_is_bounded(store, jobs, settings, running):
    for step in range(1500):
        store.progress(running, Progress(fraction=step / 1500))
    # Trimming is approximate: whole nodes of about a hundred entries.
    assert jobs.redis.xlen(Keys(settings.key_prefix).events(running.job_id)) < 1200


def test_large_requests_come_back_whole(store):
    request = REQUEST.model_copy(update={"texts": ['river 7 “ü” \\ " \x00 ' * 50_000]})
    job_id = store.create(request)
    assert store.get(job_id).request == request
    assert store.start(job_id, "worker-1").request == request


def test_prefixes_do_not_see_each_other(store, jobs, settings):
    other = hasty(settings.model_copy(update={"key_prefix": f"{settings.key_prefix}-b"}))
    job_id = store.create(REQUEST)
    assert other.store.get(job_id) is None
    assert other.indexes.queued() == []
