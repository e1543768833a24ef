"""What a client makes of a service that drops, refuses, cuts and lies: over real sockets."""

import asyncio
import io
import zipfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mambascope import AsyncClient, Client, MambascopeError, ServiceFault, Unreachable
from mambascope.client.connecting import connect
from mambascope.client.downloads import Memory, fetch, fetch_archive
from mambascope.client.saving import save
from mambascope.client.wire import run
from schemas.job import JobEvent
from schemas.names import Status
from tests.mambascope.client.rough import (
    AWAY,
    BUSY,
    CUT,
    DROP,
    DROP_AFTER,
    FILE,
    OTHER,
    RoughService,
    event,
    rough_service,
)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that a service does not name are a fiftieth of what they are."""
    monkeypatch.setattr("mambascope.client.exchange._FIRST_PAUSE", 0.02)


@pytest.fixture
def rough() -> Iterator[RoughService]:
    with rough_service() as service:
        yield service


@pytest.fixture
def client(rough: RoughService) -> Iterator[Client]:
    with Client(rough.url, patience=5) as client:
        yield client


def awaited(rough: RoughService, work: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with AsyncClient(rough.url, patience=5) as client:
            return await work(client)

    return asyncio.run(main())


FAULTS = [DROP, DROP_AFTER, AWAY, DROP_AFTER, BUSY, DROP]


def test_job_is_submitted_once_whatever_happens_on_the_way(
    rough: RoughService, client: Client
) -> None:
    rough.faults["submit"] = FAULTS.copy()
    assert client.submit("a", seed=3).id == "1"
    assert len(rough.sent("submit")) == 7
    assert len({headers["Idempotency-Key"] for headers in rough.sent("submit")}) == 1
    rough.faults["submit"] = FAULTS.copy()
    assert awaited(rough, lambda other: other.submit("a")).id == "2"
    assert len(rough.jobs) == 2
    assert client.submit("a", idempotency_key="mine").id == "3"
    assert client.submit("a", idempotency_key="mine").id == "3"


def test_readings_are_repeated(rough: RoughService, client: Client) -> None:
    job = client.submit("a")
    rough.faults["job"] = [DROP, AWAY, BUSY]
    assert job.status().status == Status.SUCCEEDED


def test_service_that_stays_away_ends_the_patience(rough: RoughService) -> None:
    with Client(rough.url, patience=0.1) as client:
        rough.faults["submit"] = [DROP_AFTER] * 100
        with pytest.raises(Unreachable, match="Nothing answers at http://127"):
            client.submit("a")
        assert 1 < len(rough.sent("submit")) < 100


def downloaded(client: Client) -> bytes:
    (artifact,) = run(client._service.artifacts("1"))
    sink = Memory()
    run(fetch(client._service, "1", artifact, sink))
    return bytes(sink.data)


def test_download_goes_on_where_it_broke(rough: RoughService, client: Client) -> None:
    rough.faults["artifacts"] = ["", CUT, DROP, CUT, AWAY]
    assert downloaded(client) == FILE
    asked = [headers.get("Range") for headers in rough.sent("artifacts")[1:]]
    half, quarter = len(FILE) // 2, len(FILE) * 3 // 4
    assert asked == [None, *[f"bytes={half}-"] * 2, *[f"bytes={quarter}-"] * 2]


def test_download_starts_again_where_there_are_no_ranges(
    rough: RoughService, client: Client
) -> None:
    rough.ranges = False
    rough.faults["artifacts"] = ["", CUT, CUT]
    assert downloaded(client) == FILE


def test_download_of_a_file_that_changed_starts_again(rough: RoughService, client: Client) -> None:
    rough.files = [FILE[::-1], FILE]
    rough.faults["artifacts"] = ["", CUT]
    assert downloaded(client) == FILE


def test_download_that_never_gets_further_ends(rough: RoughService) -> None:
    with Client(rough.url, patience=0.1) as client:
        rough.ranges = False
        rough.faults["artifacts"] = ["", *[CUT] * 100]
        with pytest.raises(Unreachable):
            downloaded(client)
        assert len(rough.sent("artifacts")) < 100


def test_download_of_other_bytes_is_refused(
    rough: RoughService, client: Client, tmp_path: Path
) -> None:
    rough.files = [FILE[:-1] + b"!"]
    with pytest.raises(ServiceFault, match="did not arrive as the service lists it"):
        downloaded(client)
    with pytest.raises(ServiceFault):
        awaited(rough, lambda other: save(other._service, "1", tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["images"]


def test_awaited_download_goes_on_where_it_broke(rough: RoughService, tmp_path: Path) -> None:
    rough.faults["artifacts"] = ["", CUT, CUT]
    (path,) = awaited(rough, lambda other: save(other._service, "1", tmp_path))
    assert path.read_bytes() == FILE
    assert len(rough.sent("artifacts")) == 4


def zipped(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return written.getvalue()


def test_archive_arrives_whole_or_not_at_all(
    rough: RoughService, client: Client, tmp_path: Path
) -> None:
    place = tmp_path / "all.zip"
    place.write_bytes(b"of before")
    whole = zipped({"images/figure.png": FILE, "more.txt": b"more"})
    for wrong, said in (
        (zipped({"images/figure.png": FILE[1:]}), r"lacks figure\.png as listed"),
        (zipped({"other.png": FILE}), r"lacks figure\.png as listed"),
        (whole[:-30], "did not arrive whole"),
    ):
        rough.archive = wrong
        with pytest.raises(ServiceFault, match=said):
            run(fetch_archive(client._service, "1", place))
        assert place.read_bytes() == b"of before"
    rough.archive, rough.faults["archive"] = whole, [CUT, DROP, CUT]
    awaited(rough, lambda other: fetch_archive(other._service, "1", place))
    assert place.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [place]


HAPPENED = [
    *(event(Status.RUNNING, fraction) for fraction in (0.0, 0.2, 0.5, 0.7)),
    event(Status.SUCCEEDED, 1.0),
]


async def gathered(client: AsyncClient) -> list[JobEvent]:
    return [found async for found in client.job("1").events()]


def test_every_event_comes_once_over_streams_that_break(
    rough: RoughService, client: Client
) -> None:
    rough.events = HAPPENED
    rough.faults["events"] = ["", DROP, AWAY, "", BUSY]
    assert list(client.job("1").events()) == HAPPENED
    seen = [headers.get("Last-Event-ID") for headers in rough.sent("events")]
    assert seen == [None, "2", "2", "2", "4", "4"]
    assert awaited(rough, gathered) == HAPPENED


def test_looking_takes_the_place_of_a_stream(rough: RoughService, client: Client) -> None:
    client.submit("a")
    rough.faults["events"] = [OTHER]
    assert [found.status for found in client.job("1").events()] == [Status.SUCCEEDED]
    # A proxy that lets nothing through: two silent streams are enough.
    rough.events, rough.events_at_once = HAPPENED, 0
    rough.faults["events"] = []
    assert awaited(rough, gathered)[-1].status == Status.SUCCEEDED


def test_stream_is_left_in_the_middle(rough: RoughService, client: Client) -> None:
    rough.events = HAPPENED
    for found in client.job("1").events():
        assert found == HAPPENED[0]
        break
    assert client._http._transport._pool.connections == []  # type: ignore[attr-defined]


def test_key_is_sent_and_not_shown(rough: RoughService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMBASCOPE_KEY", "secret-of-mine\n")
    monkeypatch.setenv("MAMBASCOPE_URL", rough.url)
    with Client() as client:
        client.submit("a")
        assert "secret" not in repr(client) + repr(client.job("1"))
    with connect(rough.url) as service:
        run(service.submit({"texts": ["a"]}))
    sent = [headers["Authorization"] for headers in rough.sent("submit")]
    assert sent == ["Bearer secret-of-mine"] * 2
    with pytest.raises(ValueError, match="visible ASCII"):
        Client(key="two\nlines")
    with pytest.raises(ValueError, match="a request carries one"):
        Client("http://me:word@localhost", key="k")
    with pytest.raises(MambascopeError):
        Client("localhost:1").health()
