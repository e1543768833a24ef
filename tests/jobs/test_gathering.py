"""Which jobs run together."""

from hypothesis import given
from hypothesis import strategies as st

from jobs import Terms
from jobs.gathering import Waiting, choose, pass_of
from schemas.request import JobRequest

SMALL = {"texts": ["a"]}


def waiting(job_id, *, of="p", alone=False, caller="", size=1):
    return Waiting(job_id, of, alone, caller, size)


def submit(jobs, caller="", **fields):
    return jobs.submit(JobRequest.model_validate(SMALL | fields), Terms(share=caller)).id


def test_jobs_share_a_pass_when_models_layers_and_methods_are_the_same():
    base = pass_of(JobRequest(texts=["a"]))
    same = {"texts": ["b", "c"], "seed": 3, "figures": False, "target": {"position": 0}}
    assert pass_of(JobRequest.model_validate(same)) == base != ""
    for other in ({"layers": [0]}, {"attention": {"methods": ["rollout"]}}, {"attention": None}):
        assert pass_of(JobRequest.model_validate(SMALL | other)) not in (base, "")


def test_a_job_with_long_texts_shares_with_nobody(jobs):
    long = {"texts": ["word " * 300]}
    assert pass_of(JobRequest.model_validate(long)) == ""
    first, _ = submit(jobs, **long), submit(jobs, **long)
    assert jobs.gathering.companions(first) == []


def test_a_job_that_keeps_its_tensors_shares_with_nobody():
    assert pass_of(JobRequest.model_validate(SMALL | {"tensors": True})) == ""


def test_companions_come_in_the_order_of_the_queue(jobs):
    first = submit(jobs)
    other = submit(jobs, layers=[0])
    alike = [submit(jobs) for _ in range(3)]
    assert jobs.gathering.companions(first) == alike
    assert jobs.gathering.companions(other) == []
    assert jobs.gathering.companions("no such job") == []


def test_callers_take_turns(jobs, settings):
    flood = [submit(jobs, "one") for _ in range(settings.jobs_together + 5)]
    others = [submit(jobs, "two"), submit(jobs, "three"), submit(jobs, "two")]
    found = jobs.gathering.companions(flood[0])
    assert len(found) == settings.jobs_together - 1
    assert set(others) < set(found)
    # Whoever has had the fewest places comes first; the head of the queue has had one.
    assert found[:4] == [others[0], others[1], flood[1], others[2]]


def test_no_more_than_the_setting_allows(jobs, settings):
    first = submit(jobs)
    for _ in range(settings.jobs_together + 3):
        submit(jobs)
    assert len(jobs.gathering.companions(first)) == settings.jobs_together - 1


def test_a_death_in_company_is_nobodys_and_separates_them(jobs, settings):
    first, second = submit(jobs), submit(jobs)
    for job_id in (first, second):
        attempt = jobs.store.start(job_id, "w", in_company=True)
        assert jobs.store.give_up(job_id, attempt.token, "SIGKILL") == "queued"
    assert jobs.gathering.companions(first) == []
    third = submit(jobs)
    assert jobs.gathering.companions(third) == []
    # All of a job's deaths are still its own when it runs alone.
    for number in range(1, settings.max_deaths + 1):
        attempt = jobs.store.start(first, "w")
        status = jobs.store.give_up(first, attempt.token, "SIGKILL")
        assert status == ("failed" if number == settings.max_deaths else "queued")


def test_a_stop_in_company_separates_nobody(jobs):
    first, second = submit(jobs), submit(jobs)
    attempt = jobs.store.start(first, "w", in_company=True)
    jobs.store.give_up(first, attempt.token, "the worker was stopped", died=False)
    assert jobs.gathering.companions(first) == [second]


def test_withdrawn_tickets_are_gone_and_others_stay(jobs):
    first, second, third = (submit(jobs) for _ in range(3))
    jobs.queue.withdraw(2)
    assert jobs.queue.waiting() == [third]
    assert not list(jobs.redis.scan_iter(f"rq:job:{first}*"))
    assert not list(jobs.redis.scan_iter(f"rq:job:{second}*"))


jobs_waiting = st.lists(
    st.tuples(st.sampled_from("pq"), st.booleans(), st.sampled_from("abc"), st.integers(0, 4000)),
    max_size=40,
)


@given(jobs_waiting, st.integers(0, 20))
def test_the_choice_is_bounded_fair_and_of_one_kind(drawn, room):
    others = [
        waiting(str(index), of=of, alone=alone, caller=caller, size=size)
        for index, (of, alone, caller, size) in enumerate(drawn)
    ]
    found = list(choose(waiting("head", caller="a"), others, room))
    known = {job.job_id: job for job in others}
    assert len(found) == len(set(found)) <= room
    assert all(known[one].pass_name == "p" and not known[one].alone for one in found)
    assert sum(known[one].text_bytes for one in found) < 8192
    served = {caller: sum(known[one].caller == caller for one in found) for caller in "abc"}
    served["a"] += 1
    left = [job for job in others if job.pass_name == "p" and not job.alone]
    passed_over = {job.caller for job in left if job.job_id not in found}
    if len(found) == room:
        # Whoever had to wait has had no fewer places than anyone else could claim beyond one more.
        assert all(served[who] >= max(served.values()) - 1 for who in passed_over)
