from concurrent.futures import ThreadPoolExecutor

from schemas.names import Departure, Status
from tests.jobs.support import REQUEST


def test_submit_returns_the_job_as_it_stands(jobs):
    job = jobs.submit(REQUEST).job
    assert job == jobs.store.get(job.id)
    assert job.status is Status.QUEUED
    assert job.queue_position == 0
    assert jobs.submit(REQUEST).job.queue_position == 1


def test_submit_is_one_transaction(jobs):
    """Record and ticket exist together or not at all: a crash between them cannot happen."""
    jobs.submit(REQUEST)
    jobs.redis.config_resetstat()
    jobs.submit(REQUEST)
    calls = {name: stat["calls"] for name, stat in jobs.redis.info("commandstats").items()}
    assert calls["cmdstat_multi"] == calls["cmdstat_exec"] == 1
    assert calls["cmdstat_eval"] == calls["cmdstat_rpush"] == 1


def test_a_job_is_removed_although_its_bytes_cannot_be(jobs, settings):
    kept, other = jobs.submit(REQUEST), jobs.submit(REQUEST)
    attempt = jobs.store.start(kept.id, "w")
    jobs.store.succeed(attempt, [])
    # Where a folder belongs lies a file, which stands for a disk that takes no changes.
    blocked = settings.data_dir / "artifacts" / kept.id
    blocked.write_bytes(b"")
    for job in (kept, other):
        assert jobs.remove(job.id, Departure.DELETED)
    assert [job_id for job_id, _ in jobs.indexes.dead_attempts()] == [kept.id]
    blocked.unlink()
    assert jobs.discard_garbage() == [kept.id]


def test_many_clients_at_once(jobs):
    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(lambda _: jobs.submit(REQUEST), range(100)))
    ids = {job.id for job in accepted}
    assert len(ids) == 100
    assert set(jobs.indexes.queued()) == ids == set(jobs.queue.waiting())
    assert sorted(jobs.store.get(one).queue_position for one in ids) == list(range(100))
