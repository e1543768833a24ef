import threading
import time

import pytest

from jobs import StaleAttempt
from jobs.artifacts import ArtifactNotFound
from jobs.reaper import Reaper, ReaperThread, Sweep
from schemas.job import Shows
from schemas.names import ArtifactKind, Departure, Status
from schemas.problem import Problem, ProblemType
from tests.jobs.support import REQUEST, hasty, reaper
from tests.jobs.test_queue import take
from tests.jobs.test_sharing import compute


@pytest.fixture
def impatient(settings):
    """The installation as seen by reapers that take every silence for death at once."""
    opened = hasty(settings)
    yield opened
    opened.close()


def run(jobs, worker="worker-1"):
    """Take the next ticket and start its job."""
    return jobs.store.start(take(jobs).args[0], worker)


def put(jobs, attempt):
    return jobs.artifacts.writer(attempt).put(
        "a.png", b"bytes", ArtifactKind.FIGURE, "image/png", Shows()
    )


def test_nothing_to_do(jobs, impatient):
    assert reaper(impatient).sweep() == Sweep()
    done = jobs.submit(REQUEST)
    attempt = run(jobs)
    jobs.store.succeed(attempt, [put(jobs, attempt)])
    jobs.submit(REQUEST)
    assert reaper(impatient).sweep() == Sweep()
    assert jobs.artifacts.read(done.id, attempt.token, "a.png") == b"bytes"


def test_a_working_job_is_left_alone(jobs):
    jobs.submit(REQUEST)
    attempt = run(jobs)
    assert reaper(jobs).sweep() == Sweep()
    jobs.store.renew(attempt)


def test_a_silent_workers_job_runs_again_before_all_that_wait(jobs, impatient):
    job = jobs.submit(REQUEST)
    later = jobs.submit(REQUEST)
    dead = run(impatient)
    assert reaper(impatient).sweep().requeued == (job.id,)
    with pytest.raises(StaleAttempt):
        jobs.store.succeed(dead, [])
    second = run(jobs)
    assert second.job_id == job.id
    assert second.number == 2
    assert run(jobs).job_id == later.id


def test_the_last_silent_worker_fails_the_job(jobs, impatient, settings):
    job = jobs.submit(REQUEST)
    for _ in range(settings.max_deaths - 1):
        run(impatient)
        assert reaper(impatient).sweep().requeued == (job.id,)
    run(impatient)
    assert reaper(impatient).sweep().failed == (job.id,)
    failed = jobs.store.get(job.id)
    assert failed.status is Status.FAILED
    assert failed.error.type == ProblemType.WORKER_LOST.uri
    assert "fell silent" in failed.error.detail
    assert take(jobs) is None


def test_a_job_without_a_ticket_gets_one(jobs, impatient):
    job_id = jobs.store.create(REQUEST)
    assert reaper(jobs).sweep() == Sweep()
    assert reaper(impatient).sweep().resubmitted == (job_id,)
    assert reaper(impatient).sweep() == Sweep()
    assert run(jobs).job_id == job_id


def test_a_ticket_that_died_with_its_taker_is_replaced(jobs, impatient):
    job = jobs.submit(REQUEST)
    take(jobs)
    assert reaper(jobs).sweep() == Sweep(), "its taker may be about to start the job"
    assert reaper(impatient).sweep().resubmitted == (job.id,)
    assert run(jobs).job_id == job.id
    reaper(jobs).sweep()
    assert jobs.queue.rq.intermediate_queue.get_job_ids() == []


def test_a_job_is_unsent_after_a_whole_lease_without_a_ticket_and_to_one_caller(settings, jobs):
    indexes = hasty(settings, lease_seconds=0.2).indexes
    job_id = jobs.store.create(REQUEST)
    assert indexes.unsent({job_id}) == []
    time.sleep(0.25)
    assert indexes.unsent({job_id}) == [job_id]
    assert indexes.unsent({job_id}) == []


def test_a_job_that_was_only_briefly_without_a_ticket_is_not_sent_twice(settings, jobs):
    job = jobs.submit(REQUEST)
    ticket = take(jobs)
    reaper(jobs).sweep()
    attempt = jobs.store.start(ticket.args[0], "worker-1")
    reaper(jobs).sweep()
    jobs.store.give_up(job.id, attempt.token, "SIGKILL")
    time.sleep(0.25)
    # Missing anew: what was noted before the start must not count.
    assert reaper(hasty(settings, lease_seconds=0.2)).sweep() == Sweep()
    assert jobs.queue.waiting() == []


def test_a_worker_that_speaks_again_at_the_last_moment_keeps_its_job(jobs, monkeypatch):
    jobs.submit(REQUEST)
    attempt = run(jobs)
    lost = [(attempt.job_id, attempt.token)]
    # As when the lease is renewed between finding the job lost and taking it back.
    monkeypatch.setattr(jobs.indexes, "lost", lambda: iter(lost))
    assert reaper(jobs).sweep() == Sweep()
    jobs.store.renew(attempt)


def test_a_reaper_that_died_after_taking_back_is_replaced(jobs, impatient):
    job = jobs.submit(REQUEST)
    attempt = run(impatient)
    impatient.store.give_up(job.id, attempt.token, "SIGKILL")
    assert reaper(impatient).sweep().resubmitted == (job.id,)
    assert run(jobs).number == 2


def test_bytes_of_a_dead_attempt_go(jobs, impatient):
    job = jobs.submit(REQUEST)
    dead = run(impatient)
    put(jobs, dead)
    reaper(impatient).sweep()
    with pytest.raises(ArtifactNotFound):
        jobs.artifacts.read(job.id, dead.token, "a.png")


def test_bytes_of_a_failed_attempt_go(jobs):
    job = jobs.submit(REQUEST)
    attempt = run(jobs)
    put(jobs, attempt)
    jobs.store.fail(attempt, Problem.of(ProblemType.NOT_FINITE, "the logits are NaN"))
    assert reaper(jobs).sweep().discarded == (job.id,)
    with pytest.raises(ArtifactNotFound):
        jobs.artifacts.read(job.id, attempt.token, "a.png")
    assert reaper(jobs).sweep() == Sweep()


def test_bytes_that_cannot_be_removed_keep_no_others(settings, jobs):
    stuck, other = jobs.submit(REQUEST).id, jobs.submit(REQUEST).id
    for job_id in (stuck, other):
        compute(jobs, job_id)
    run, folder = jobs.store.artifacts(stuck), settings.data_dir / "artifacts" / stuck
    # A file in a folder's place is one way for it not to go that root meets too.
    (folder / run.token).rename(folder / "aside")
    (folder / run.token).touch()
    assert jobs.remove(stuck, Departure.EXPIRED)
    assert jobs.remove(other, Departure.EXPIRED)
    assert not folder.with_name(other).exists()
    (folder / run.token).unlink()
    assert reaper(jobs).sweep() == Sweep(discarded=(stuck,))


def test_bytes_of_a_lost_attempt_that_cannot_be_removed_keep_no_others(settings, jobs, impatient):
    lost = [jobs.submit(REQUEST).id for _ in range(3)]
    for job_id in lost:
        token = run(impatient).token
        folder = settings.data_dir / "artifacts" / job_id
        folder.mkdir(parents=True)
        (folder / token).touch()
    assert sorted(reaper(impatient).sweep().requeued) == lost


def test_bytes_that_stay_are_told_of_once(settings, jobs, caplog):
    for _ in range(2):
        job_id = jobs.submit(REQUEST).id
        compute(jobs, job_id)
        folder = settings.data_dir / "artifacts" / job_id
        token = jobs.store.artifacts(job_id).token
        (folder / token).rename(folder / "aside")
        (folder / token).touch()
        jobs.remove(job_id, Departure.DELETED)
    for _ in range(3):
        assert reaper(jobs).sweep() == Sweep()
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2


def test_what_a_zombie_writes_goes_once_it_must_be_dead(jobs, settings):
    # A time limit in the past stands for having waited it out.
    waited = hasty(settings.model_copy(update={"job_time_limit": -settings.kill_grace}))
    for patient, discarded in ((jobs, False), (waited, True)):
        job = jobs.submit(REQUEST)
        zombie = run(jobs)
        patient.store.give_up(job.id, zombie.token, "SIGKILL")
        put(jobs, zombie)
        assert reaper(jobs).sweep().discarded == ((job.id,) if discarded else ())


def test_reapers_at_once_do_each_thing_once(settings, jobs, impatient):
    lost = [jobs.submit(REQUEST).id for _ in range(5)]
    for _ in lost:
        run(impatient)
    ticketless = [jobs.store.create(REQUEST) for _ in range(5)]
    barrier = threading.Barrier(6)
    sweeps = []

    def sweep():
        opened = hasty(settings)
        barrier.wait()
        sweeps.append(reaper(opened).sweep())
        opened.close()

    threads = [threading.Thread(target=sweep) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sweeps) == 6
    assert sorted(one for done in sweeps for one in done.requeued) == lost
    assert set(jobs.queue.waiting()) == {*lost, *ticketless}
    started = [jobs.store.start(one, "worker-2") for one in (*lost, *ticketless)]
    assert [attempt.number for attempt in started] == [2] * 5 + [1] * 5


def test_the_thread_sweeps_until_stopped(settings, jobs):
    quick = settings.model_copy(update={"lease_seconds": 0.03})
    opened = hasty(settings)
    thread = ReaperThread(reaper(opened), quick)
    thread.start()
    job_id = jobs.store.create(REQUEST)
    deadline = time.monotonic() + 20
    while job_id not in jobs.queue.waiting() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert job_id in jobs.queue.waiting()
    thread.stop()
    assert not thread.is_alive()


def test_what_was_swept_and_that_pinned_jobs_leave_no_room_is_logged(settings, jobs, caplog):
    caplog.set_level("INFO")
    pinned, other = jobs.submit(REQUEST).id, jobs.submit(REQUEST).id
    jobs.store.pin(pinned, True)
    for job_id in (pinned, other):
        compute(jobs, job_id)
    quick = settings.model_copy(update={"lease_seconds": 0.03})
    thread = ReaperThread(Reaper(jobs, most_bytes=4), quick)
    thread.start()
    deadline = time.monotonic() + 20
    while len(caplog.records) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    thread.stop()
    told, error = caplog.records
    assert (told.levelname, error.levelname) == ("INFO", "ERROR")
    gone = {"discarded": (other,), "evicted": (other,)}
    assert told.getMessage() == f"swept: {gone}"
    assert "pinned jobs have 1 bytes more than MAMBASCOPE_MAX_STORED_BYTES" in error.getMessage()
