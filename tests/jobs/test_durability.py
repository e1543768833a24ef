"""kill -9 of a real server: what was accepted is there when it comes back."""

import threading
import time
from contextlib import suppress

import pytest
from pydantic import SecretStr
from redis import RedisError

from jobs import open_jobs
from jobs.reaper import ReaperThread
from schemas.job import Shows
from schemas.names import ArtifactKind, Status
from tests.jobs.support import REQUEST, hasty, reaper
from tests.jobs.test_queue import take


@pytest.fixture
def durable(server, settings):
    return settings.model_copy(update={"redis_url": SecretStr(f"unix://{server.unix_socket_path}")})


def test_every_accepted_job_survives(server, durable):
    jobs = open_jobs(durable)
    finished = jobs.submit(REQUEST).id
    attempt = jobs.store.start(take(jobs).args[0], "worker-1")
    artifact = jobs.artifacts.writer(attempt).put(
        "a.png", b"bytes", ArtifactKind.FIGURE, "image/png", Shows()
    )
    jobs.store.succeed(attempt, [artifact])
    jobs.submit(REQUEST)
    running = jobs.store.start(take(jobs).args[0], "worker-1")

    accepted: list[str] = []
    enough = threading.Event()

    def submit_on():
        # Ends with the server: the job whose answer is lost may be there or not.
        client = open_jobs(durable.model_copy())
        with suppress(RedisError):
            while True:
                accepted.append(client.submit(REQUEST).id)
                if len(accepted) == 100:
                    enough.set()

    thread = threading.Thread(target=submit_on, daemon=True)
    thread.start()
    assert enough.wait(30)
    server.terminate()
    # Longer than a client keeps trying, so that `accepted` is what was answered before the kill.
    thread.join(30)
    assert not thread.is_alive()
    server.start()

    survivors = jobs.queue.waiting()
    for job_id in accepted:
        assert jobs.store.get(job_id).status is Status.QUEUED
        assert job_id in survivors
    assert jobs.store.get(finished).status is Status.SUCCEEDED
    stored = jobs.store.artifacts(finished)
    assert jobs.artifacts.read(finished, stored.token, "a.png") == b"bytes"
    jobs.store.renew(running)
    jobs.store.succeed(running, [])


def test_clients_outlive_a_restart(server, durable):
    jobs = open_jobs(durable)
    first = jobs.submit(REQUEST)
    server.terminate()
    restart = threading.Timer(0.5, server.start)
    restart.start()
    try:
        second = jobs.submit(REQUEST)
    finally:
        restart.join()
    assert [jobs.store.get(one.id).queue_position for one in (first, second)] == [0, 1]


def wait_until(true):
    deadline = time.monotonic() + 30
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert true()


def test_the_reaper_outlives_an_outage(server, durable, caplog):
    jobs = hasty(durable)
    thread = ReaperThread(reaper(jobs), durable.model_copy(update={"lease_seconds": 0.3}))
    server.terminate()
    thread.start()
    wait_until(lambda: "a sweep failed" in caplog.text)
    server.start()
    job_id = jobs.store.create(REQUEST)
    wait_until(lambda: job_id in jobs.queue.waiting())
    thread.stop()
