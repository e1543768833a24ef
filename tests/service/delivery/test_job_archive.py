import io
import os
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import Jobs
from jobs.artifacts import PIECE
from schemas.job import Shows
from schemas.names import ArtifactKind
from schemas.settings import Settings
from service.delivery.zip_archive import Entry, ReadFile, ZipArchive
from tests.service.conftest import FIGURE, RESULT, finished, problem_of, started

LARGE = os.urandom(1000) * 3500  # several pieces


def with_tensors(jobs: Jobs) -> str:
    """The id of a job that also left a large file and an empty one."""
    attempt = started(jobs)
    put = jobs.artifacts.writer(attempt).put
    binary = "application/octet-stream"
    artifacts = [
        put("result.json", RESULT, ArtifactKind.RESULT, "application/json", Shows()),
        put("empty", b"", ArtifactKind.TENSORS, binary, Shows()),
        put("tensors.safetensors", LARGE, ArtifactKind.TENSORS, binary, Shows()),
        put("sheet.png", FIGURE, ArtifactKind.FIGURE, "image/png", Shows()),
    ]
    jobs.store.succeed(attempt, artifacts)
    return attempt.job_id


def place(jobs: Jobs, settings: Settings, job_id: str, name: str) -> Path:
    """Where the bytes of a file lie."""
    stored = jobs.store.artifacts(job_id)
    assert stored is not None
    return settings.data_dir / "artifacts" / job_id / stored.token / name


def test_every_file_is_in_the_archive(client: httpx.Client, jobs: Jobs, tmp_path: Path) -> None:
    job_id = with_tensors(jobs)
    response = client.get(f"/v1/jobs/{job_id}/archive")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/zip"
    name = f"mambascope-{job_id}.zip"
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert int(response.headers["content-length"]) == len(response.content)
    with zipfile.ZipFile(io.BytesIO(response.content)) as found:
        assert found.testzip() is None
        held = {entry.filename: found.read(entry) for entry in found.infolist()}
        assert {entry.compress_type for entry in found.infolist()} == {zipfile.ZIP_STORED}
    assert held == {
        "result.json": RESULT,
        "empty": b"",
        "tensors.safetensors": LARGE,
        "sheet.png": FIGURE,
    }
    (tmp_path / name).write_bytes(response.content)
    done = subprocess.run(["unzip", "-t", name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No errors detected" in done.stdout


def test_the_bytes_are_the_same_each_time_and_parts_fit(client: httpx.Client, jobs: Jobs) -> None:
    path = f"/v1/jobs/{with_tensors(jobs)}/archive"
    first, second = client.get(path), client.get(path)
    assert first.content == second.content
    tag = first.headers["etag"]
    assert tag == second.headers["etag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    size = len(first.content)
    for start, stop in ((0, 5), (40, 400), (PIECE, 2 * PIECE + 3), (size - 600, size)):
        part = client.get(path, headers={"Range": f"bytes={start}-{stop - 1}", "If-Range": tag})
        assert part.status_code == 206
        assert part.content == first.content[start:stop]
    head = client.head(path)
    assert head.headers["content-length"] == str(size)
    assert head.headers["etag"] == tag
    assert head.headers["accept-ranges"] == "bytes"


def test_other_files_make_another_tag(client: httpx.Client, jobs: Jobs) -> None:
    tags = {
        client.head(f"/v1/jobs/{job_id}/archive").headers["etag"]
        for job_id in (finished(jobs), finished(jobs), with_tensors(jobs))
    }
    assert len(tags) == 2


def test_files_of_the_same_sizes_with_other_bytes_make_another_tag(
    client: httpx.Client, jobs: Jobs
) -> None:
    tags = set()
    for data in (b"one", b"two"):
        attempt = started(jobs)
        put = jobs.artifacts.writer(attempt).put
        result = put("result.json", data, ArtifactKind.RESULT, "application/json", Shows())
        jobs.store.succeed(attempt, [result])
        tags.add(client.head(f"/v1/jobs/{attempt.job_id}/archive").headers["etag"])
    assert len(tags) == 2


@pytest.mark.parametrize("harm", ["remove", "cut"])
def test_a_missing_file_is_told_before_the_first_byte(
    client: httpx.Client, jobs: Jobs, settings: Settings, harm: str
) -> None:
    job_id = with_tensors(jobs)
    file = place(jobs, settings, job_id, "sheet.png")
    file.unlink() if harm == "remove" else os.truncate(file, 5)
    response = client.get(f"/v1/jobs/{job_id}/archive")
    assert response.status_code == 503
    assert "`sheet.png`" in str(problem_of(response, "unavailable")["detail"])


def test_a_file_lost_on_the_way_breaks_the_connection(
    client: httpx.Client, jobs: Jobs, settings: Settings
) -> None:
    attempt = started(jobs)
    put = jobs.artifacts.writer(attempt).put
    binary = "application/octet-stream"
    # More than what the sockets hold, so that the service is still reading the first file.
    sparse = bytes(24 << 20)
    artifacts = [
        put(name, data, ArtifactKind.TENSORS, binary, Shows())
        for name, data in (("a", sparse), ("b", b"lost"))
    ]
    jobs.store.succeed(attempt, artifacts)
    lost = place(jobs, settings, attempt.job_id, "b")
    with client.stream("GET", f"/v1/jobs/{attempt.job_id}/archive") as response:
        assert response.status_code == 200
        pieces = response.iter_raw()
        next(pieces)
        lost.unlink()
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in pieces:
                pass
    assert client.get("/healthz").status_code == 200


def test_files_whose_crc_was_not_written_are_archived_too(client: httpx.Client, jobs: Jobs) -> None:
    attempt = started(jobs)
    put = jobs.artifacts.writer(attempt).put
    written = put("sheet.png", FIGURE, ArtifactKind.FIGURE, "image/png", Shows())
    jobs.store.succeed(attempt, [written.model_copy(update={"crc32": None})])
    response = client.get(f"/v1/jobs/{attempt.job_id}/archive")
    with zipfile.ZipFile(io.BytesIO(response.content)) as found:
        assert found.testzip() is None
        assert found.read("sheet.png") == FIGURE


def test_before_the_end_there_is_no_archive(client: httpx.Client, jobs: Jobs) -> None:
    response = client.get(f"/v1/jobs/{started(jobs).job_id}/archive")
    problem_of(response, "not-finished")
    problem_of(client.get("/v1/jobs/none/archive"), "not-found")


def archived(files: dict[str, bytes]) -> tuple[ZipArchive, bytes]:
    entries = [Entry(name, len(data), zlib.crc32(data)) for name, data in files.items()]
    archive = ZipArchive(entries)
    return archive, b"".join(archive.read(range(archive.size), reader(files)))


def reader(files: dict[str, bytes]) -> ReadFile:
    def read(name: str, span: range) -> Iterator[bytes]:
        yield files[name][span.start : span.stop]

    return read


FILES = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True), st.binary(max_size=60)
)


@given(FILES, st.data())
def test_any_span_of_any_archive_is_the_slice(files: dict[str, bytes], data: st.DataObject) -> None:
    archive, whole = archived(files)
    assert archive.size == len(whole)
    with zipfile.ZipFile(io.BytesIO(whole)) as found:
        assert {name: found.read(name) for name in found.namelist()} == files
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert b"".join(archive.read(range(start, stop), reader(files))) == whole[start:stop]


def test_more_files_than_the_older_format_counts() -> None:
    files = {f"f{index}": b"%d" % index for index in range(70_000)}
    _, whole = archived(files)
    with zipfile.ZipFile(io.BytesIO(whole)) as found:
        assert len(found.namelist()) == 70_000
        assert found.read("f69999") == b"69999"


def test_files_beyond_four_gigabytes(tmp_path: Path) -> None:
    """The large file is a hole on disk; its CRC stands in the archive and is not checked here."""
    large = Entry("large", 2**32 + 5, 0)
    files = {"first": b"at the start", "last": b"beyond the old offsets"}
    small = {name: Entry(name, len(data), zlib.crc32(data)) for name, data in files.items()}
    archive = ZipArchive([small["first"], large, small["last"]])
    path = tmp_path / "large.zip"
    with path.open("wb") as file:

        def read(name: str, span: range) -> Iterator[bytes]:
            if name == large.name:
                file.seek(len(span), os.SEEK_CUR)
            else:
                yield files[name]

        for piece in archive.read(range(archive.size), read):
            file.write(piece)
    assert path.stat().st_size == archive.size
    with zipfile.ZipFile(path) as found:
        assert {name: found.read(name) for name in files} == files
        assert found.getinfo("large").file_size == large.size
        with found.open("large") as opened:
            assert opened.read(10) == bytes(10)
    listed = subprocess.run(["unzip", "-l", path], capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    assert str(large.size) in listed.stdout
    one = subprocess.run(["unzip", "-p", path, "last"], capture_output=True)
    assert one.stdout == files["last"]
