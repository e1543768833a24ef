from jobs.keys import Keys
from jobs.presence import WorkerPresence


def test_workers_come_and_go(jobs):
    assert jobs.presence.alive() == []
    jobs.presence.announce("worker-b", ready=False, models=[], pid=7)
    jobs.presence.announce("worker-a", ready=True, models=["pocket/recall-mamba"], pid=8)
    jobs.presence.announce("worker-b", ready=True, models=["gpt2"], pid=7)
    assert jobs.presence.alive() == [
        WorkerPresence(worker="worker-a", ready=True, models=["pocket/recall-mamba"], pid=8),
        WorkerPresence(worker="worker-b", ready=True, models=["gpt2"], pid=7),
    ]
    jobs.presence.withdraw("worker-a")
    assert [one.worker for one in jobs.presence.alive()] == ["worker-b"]


def test_a_silent_worker_is_not_alive(jobs, settings):
    keys = Keys(settings.key_prefix)
    jobs.presence.announce("worker-a", ready=True, models=[], pid=8)
    jobs.presence.announce("worker-b", ready=True, models=[], pid=9)
    assert 0 < jobs.redis.ttl(keys.worker("worker-a")) <= settings.lease_seconds
    jobs.redis.delete(keys.worker("worker-a"))
    assert [one.worker for one in jobs.presence.alive()] == ["worker-b"]
    assert jobs.redis.smembers(keys.workers) == {b"worker-b"}
    jobs.presence.announce("worker-a", ready=True, models=[], pid=8)
    assert len(jobs.presence.alive()) == 2
