from rq import Queue
from rq.job import Job as RqJob
from rq.job import JobStatus

from jobs.identity import JobIds
from jobs.queue import FUNCTION
from tests.jobs.support import REQUEST


def take(jobs):
    """What an RQ worker does to get its next ticket."""
    taken = Queue.dequeue_any(
        [jobs.queue.rq], None, connection=jobs.redis, serializer=jobs.queue.rq.serializer
    )
    return taken[0] if taken else None


def test_a_ticket_carries_the_one_function_and_the_id(jobs, settings):
    job = jobs.submit(REQUEST)
    ticket = take(jobs)
    assert ticket.func_name == FUNCTION == "workers.runner.execute"
    assert ticket.args == [job.id]
    assert ticket.kwargs == {}
    assert ticket.timeout == settings.job_time_limit
    assert ticket.retries_left is None
    assert 0 < ticket.result_ttl < 3600
    assert jobs.queue.name == settings.key_prefix


def test_tickets_are_json_not_pickle(jobs):
    jobs.submit(REQUEST)
    [ticket] = jobs.queue.rq.get_job_ids()
    assert RqJob.fetch(ticket, connection=jobs.redis, serializer="json").data.startswith(b"[")


def test_order(jobs):
    ids = [jobs.submit(REQUEST).id for _ in range(3)]
    urgent = jobs.store.create(REQUEST)
    jobs.queue.submit(urgent, first=True)
    assert jobs.queue.waiting() == [urgent, *ids]
    assert [take(jobs).args[0] for _ in range(4)] == [urgent, *ids]
    assert jobs.queue.waiting() == []


def test_a_second_ticket_does_no_harm(jobs):
    job = jobs.submit(REQUEST)
    jobs.queue.submit(job.id)
    first, second = take(jobs), take(jobs)
    assert first.id != second.id
    assert first.args == second.args == [job.id]
    assert jobs.store.start(first.args[0], "worker-1") is not None
    assert jobs.store.start(second.args[0], "worker-2") is None


def test_what_rq_does_to_an_old_ticket_leaves_the_new_one_alone(jobs):
    job = jobs.submit(REQUEST)
    old = take(jobs)
    jobs.queue.submit(job.id)
    old.delete()
    assert take(jobs).args == [job.id]


def test_a_ticket_without_a_record_starts_nothing(jobs):
    jobs.queue.submit(JobIds().next())
    assert jobs.store.start(take(jobs).args[0], "worker-1") is None


def test_tidying_drops_taken_tickets_of_started_jobs_only(jobs):
    started, waiting = jobs.submit(REQUEST).id, jobs.submit(REQUEST).id
    first, second = take(jobs), take(jobs)
    jobs.store.start(started, "worker-1")
    jobs.queue.tidy({waiting})
    assert jobs.queue.rq.intermediate_queue.get_job_ids() == [second.id]
    assert jobs.redis.ttl(RqJob.key_for(first.id)) > jobs.queue.rq.fetch_job(first.id).timeout
    assert jobs.redis.ttl(RqJob.key_for(second.id)) == -1


def test_tidying_ends_executions_without_a_heartbeat(jobs):
    jobs.submit(REQUEST)
    ticket = take(jobs)
    ticket.set_status(JobStatus.STARTED)
    started = jobs.queue.rq.started_job_registry
    jobs.redis.zadd(started.key, {f"{ticket.id}:execution": 1})
    jobs.queue.tidy(set())
    assert jobs.redis.zcard(started.key) == 0
    assert ticket.get_status() is JobStatus.FAILED


def test_a_ticket_that_a_worker_has_is_left_to_it(jobs):
    """RQ fails on a ticket that vanishes while it is handled."""
    job_id = JobIds().next()
    jobs.queue.submit(job_id)
    ticket = take(jobs)
    jobs.queue.take_back(ticket.id)
    assert jobs.redis.exists(RqJob.key_for(ticket.id))
    jobs.queue.submit(job_id)
    [waiting] = jobs.queue.rq.get_job_ids()
    jobs.queue.take_back(waiting)
    assert jobs.queue.waiting() == []
    assert not jobs.redis.exists(RqJob.key_for(waiting))
