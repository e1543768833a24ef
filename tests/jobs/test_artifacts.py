import hashlib
import os
import zlib
from pathlib import Path

import pytest

from jobs import Attempt, artifacts
from jobs.artifacts import PIECE, ArtifactNotFound
from jobs.identity import JobIds, new_token
from schemas.artifact_names import is_artifact_name
from schemas.job import Shows
from schemas.names import ArtifactKind, Method
from schemas.problem import ProblemError, ProblemType
from tests.jobs.support import REQUEST

HOSTILE = [
    "",
    ".",
    "..",
    "../result.json",
    "a/b",
    "/etc/passwd",
    "a\\b",
    "..\\x",
    ".hidden",
    "a\x00b",
    "a\n",
    "a b",
    "%2e%2e",
    "ü.png",
    "a#1",
    "x" * 300,
]


@pytest.fixture
def attempt():
    return Attempt(JobIds().next(), new_token(), 1, REQUEST)


def put(jobs, attempt, name, data=b"bytes"):
    return jobs.artifacts.writer(attempt).put(
        name, data, ArtifactKind.FIGURE, "image/png", Shows(layer=3, method=Method.ROLLOUT)
    )


def test_bytes_come_back(jobs, attempt):
    data = bytes(range(256)) * 1000
    artifact = put(jobs, attempt, "pocket_recall-mamba--text0--tokens_layer3.png", data)
    assert artifact.size == len(data)
    assert artifact.sha256 == hashlib.sha256(data).hexdigest()
    assert artifact.shows == Shows(layer=3, method=Method.ROLLOUT)
    assert (artifact.kind, artifact.media_type) == (ArtifactKind.FIGURE, "image/png")
    assert jobs.artifacts.read(attempt.job_id, attempt.token, artifact.name) == data
    assert artifact.crc32 == f"{zlib.crc32(data):08x}"


def test_a_store_that_takes_nothing_is_a_typed_problem(jobs, attempt, settings):
    (settings.data_dir / "artifacts" / attempt.job_id).write_bytes(b"in the way")
    with pytest.raises(ProblemError, match=r"`result\.json` could not be written") as caught:
        put(jobs, attempt, "result.json")
    assert caught.value.kind is ProblemType.STORAGE_FAILED
    assert caught.value.__cause__ is not None


def test_large_and_empty_files(jobs, attempt):
    data = b"0123456789abcdef" * (3 * 2**20 // 16 * 4 + 1)
    put(jobs, attempt, "large", data)
    put(jobs, attempt, "empty", b"")
    pieces = list(jobs.artifacts.stream(attempt.job_id, attempt.token, "large", range(len(data))))
    assert len(pieces) > 1
    assert b"".join(pieces) == data
    assert jobs.artifacts.read(attempt.job_id, attempt.token, "empty") == b""


def test_bytes_are_on_stable_storage_before_put_returns(jobs, attempt, settings, monkeypatch):
    synced = []
    fsync = os.fsync

    def watched(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(artifacts.os, "fsync", watched)
    put(jobs, attempt, "a.png")
    root = str((settings.data_dir / "artifacts").resolve())
    folder = f"{root}/{attempt.job_id}/{attempt.token}"
    assert synced[:2] == [f"{folder}/a.png", folder]
    assert {f"{root}/{attempt.job_id}", root, str(settings.data_dir.resolve())} <= set(synced)


def test_a_name_is_written_once(jobs, attempt):
    put(jobs, attempt, "a.png", b"first")
    with pytest.raises(ValueError, match="already written"):
        put(jobs, attempt, "a.png", b"second")
    assert jobs.artifacts.read(attempt.job_id, attempt.token, "a.png") == b"first"


def test_attempts_do_not_share_files(jobs, attempt):
    other = Attempt(attempt.job_id, new_token(), 2, REQUEST)
    put(jobs, attempt, "a.png", b"first")
    put(jobs, other, "a.png", b"second")
    jobs.artifacts.discard(attempt.job_id, attempt.token)
    assert jobs.artifacts.read(other.job_id, other.token, "a.png") == b"second"
    with pytest.raises(ArtifactNotFound):
        jobs.artifacts.read(attempt.job_id, attempt.token, "a.png")
    jobs.artifacts.discard(attempt.job_id, attempt.token)


def test_nothing_stays_of_a_job_whose_last_attempt_goes(jobs, attempt, settings):
    other = Attempt(attempt.job_id, new_token(), 2, REQUEST)
    put(jobs, attempt, "a.png")
    put(jobs, other, "a.png")
    root = settings.data_dir / "artifacts"
    jobs.artifacts.discard(attempt.job_id, attempt.token)
    assert [path.name for path in (root / attempt.job_id).iterdir()] == [other.token]
    jobs.artifacts.discard(other.job_id, other.token)
    assert list(root.iterdir()) == []


def test_files_that_another_removes_meanwhile_are_passed_over(jobs, attempt, settings, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        put(jobs, attempt, name)
    unlink = os.unlink
    met = []

    def beaten_to_the_first(path, **where):
        unlink(path, **where)
        if not met:
            met.append(path)
            raise FileNotFoundError(path)

    monkeypatch.setattr(os, "unlink", beaten_to_the_first)
    jobs.artifacts.discard(attempt.job_id, attempt.token)
    assert list((settings.data_dir / "artifacts").iterdir()) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(jobs, attempt, settings, name):
    assert not is_artifact_name(name)
    put(jobs, attempt, "result.json")
    with pytest.raises(ValueError, match="not an artifact name"):
        put(jobs, attempt, name)
    with pytest.raises(ArtifactNotFound):
        jobs.artifacts.stream(attempt.job_id, attempt.token, name, range(1))
    written = [path for path in settings.data_dir.rglob("*") if path.is_file()]
    assert [path.name for path in written] == ["result.json"]


@pytest.mark.parametrize(
    ("job_id", "token"),
    [("..", "ab" * 12), ("", ""), ("*", "*"), ("01M8JG01E60008MFXRWM4AZADJ", "..")],
)
def test_hostile_places(jobs, settings, job_id, token):
    kept = settings.data_dir / "artifacts" / "keep"
    kept.write_text("me")
    with pytest.raises(ArtifactNotFound):
        jobs.artifacts.read(job_id, token, "keep")
    jobs.artifacts.discard(job_id, token)
    assert kept.exists()


def test_an_artifact_that_is_not_there(jobs, attempt):
    with pytest.raises(ArtifactNotFound, match="no artifact"):
        jobs.artifacts.read(attempt.job_id, attempt.token, "result.json")


@pytest.mark.parametrize(
    "span", [range(1), range(5, 9), range(PIECE - 1, PIECE + 1), range(PIECE, 2 * PIECE), range(0)]
)
def test_a_span_is_the_slice(jobs, attempt, span):
    data = bytes(range(251)) * (2 * PIECE // 251 + 1)
    put(jobs, attempt, "large", data)
    pieces = list(jobs.artifacts.stream(attempt.job_id, attempt.token, "large", span))
    assert b"".join(pieces) == data[span.start : span.stop]
    assert all(len(piece) <= PIECE for piece in pieces)


def test_bytes_cut_from_outside_are_never_passed_off_as_the_span(jobs, attempt, settings):
    put(jobs, attempt, "a.png", bytes(2 * PIECE))
    path = settings.data_dir / "artifacts" / attempt.job_id / attempt.token / "a.png"
    os.truncate(path, PIECE + 1)
    pieces = jobs.artifacts.stream(attempt.job_id, attempt.token, "a.png", range(2 * PIECE))
    assert len(next(pieces)) == PIECE
    with pytest.raises(ArtifactNotFound, match=f"ends at byte {PIECE + 1}"):
        next(pieces)
    with pytest.raises(ArtifactNotFound):
        jobs.artifacts.stream(attempt.job_id, attempt.token, "a.png", range(PIECE + 1, PIECE + 2))


def test_sizes_of_all_files_of_an_attempt(jobs, attempt):
    assert jobs.artifacts.sizes(attempt.job_id, attempt.token) == {}
    put(jobs, attempt, "a.png", b"12345")
    put(jobs, attempt, "empty", b"")
    put(jobs, Attempt(attempt.job_id, new_token(), 2, REQUEST), "other")
    assert jobs.artifacts.sizes(attempt.job_id, attempt.token) == {"a.png": 5, "empty": 0}
    assert jobs.artifacts.sizes("..", attempt.token) == {}
