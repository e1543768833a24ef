import asyncio

import pytest
from pydantic import SecretStr
from redis.exceptions import RedisError

from jobs import Jobs, open_jobs
from schemas.job import Job
from schemas.request import JobRequest
from schemas.settings import Settings
from service.following.lookup import JobLookup
from tests.service.conftest import SUBMIT


def test_everyone_gets_the_job_that_was_asked_for(jobs: Jobs) -> None:
    ids = [jobs.submit(JobRequest(**SUBMIT)).id for _ in range(5)]
    asked = [*ids, "0" * 26, "no id"] * 20

    async def ask() -> list[str | None]:
        lookup = JobLookup(jobs.reader)
        found = await asyncio.gather(*map(lookup.find, asked))
        jobs.reader.close()
        return [None if one is None else Job.model_validate_json(one.body).id for one in found]

    assert asyncio.run(ask()) == [one if one in ids else None for one in asked]


def test_an_answer_is_read_after_its_question(jobs: Jobs) -> None:
    job_id = jobs.submit(JobRequest(**SUBMIT)).id

    async def ask() -> list[str]:
        lookup = JobLookup(jobs.reader)
        early = asyncio.create_task(lookup.find(job_id))
        await asyncio.sleep(0)
        await asyncio.to_thread(jobs.store.start, job_id, "worker-1")
        late = await lookup.find(job_id)
        await early
        jobs.reader.close()
        assert late is not None
        return [Job.model_validate_json(late.body).status]

    assert asyncio.run(ask()) == ["running"]


def test_one_who_leaves_takes_no_answer_from_the_others(jobs: Jobs) -> None:
    job_id = jobs.submit(JobRequest(**SUBMIT)).id

    async def ask() -> bool:
        lookup = JobLookup(jobs.reader)
        leaver, stayer = (asyncio.create_task(lookup.find(job_id)) for _ in range(2))
        await asyncio.sleep(0)
        leaver.cancel()
        async with asyncio.timeout(10):
            found = await stayer, await lookup.find(job_id)
        jobs.reader.close()
        return all(found)

    assert asyncio.run(ask())


def test_everyone_hears_of_a_store_that_is_down(settings: Settings) -> None:
    gone = open_jobs(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))

    async def ask() -> list[object]:
        lookup = JobLookup(gone.reader)
        found = await asyncio.gather(
            *(lookup.find("0" * 26) for _ in range(3)), return_exceptions=True
        )
        return list(found)

    found = asyncio.run(ask())
    assert len(found) == 3
    with pytest.raises(RedisError):
        for error in found:
            assert isinstance(error, RedisError)
            raise error
