import hashlib
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from jobs import Jobs
from jobs.artifacts import PIECE, ArtifactStore
from schemas.job import ArtifactList, Shows
from schemas.names import ArtifactKind, Departure
from schemas.problem import FieldError, Problem, ProblemType
from tests.service.conftest import FIGURE, RESULT, finished, problem_of, started


def test_the_result_is_the_stored_bytes(client: httpx.Client, jobs: Jobs) -> None:
    response = client.get(f"/v1/jobs/{finished(jobs)}/result")
    assert response.status_code == 200
    assert response.content == RESULT
    assert response.headers["content-type"] == "application/json"
    assert response.headers["etag"] == f'"{hashlib.sha256(RESULT).hexdigest()}"'


def test_artifacts_are_listed_and_every_link_leads_to_its_bytes(
    client: httpx.Client, jobs: Jobs
) -> None:
    job_id = finished(jobs)
    response = client.get(f"/v1/jobs/{job_id}/artifacts")
    listed = ArtifactList.model_validate(response.json())
    assert listed.job_id == job_id
    assert [artifact.name for artifact in listed.artifacts] == ["result.json", "sheet.png"]
    for artifact in listed.artifacts:
        got = client.get(artifact.href)
        assert got.status_code == 200
        assert hashlib.sha256(got.content).hexdigest() == artifact.sha256
        assert int(got.headers["content-length"]) == len(got.content) == artifact.size
        assert got.headers["content-type"] == artifact.media_type


def test_bytes_never_change_and_say_so(client: httpx.Client, jobs: Jobs) -> None:
    path = f"/v1/jobs/{finished(jobs)}/artifacts/sheet.png"
    response = client.get(path)
    assert response.content == FIGURE
    assert response.headers["etag"] == f'"{hashlib.sha256(FIGURE).hexdigest()}"'
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("form", ["{tag}", "W/{tag}", '"other", {tag}', "*"])
def test_a_client_that_holds_the_bytes_gets_none(
    client: httpx.Client, jobs: Jobs, form: str
) -> None:
    path = f"/v1/jobs/{finished(jobs)}/artifacts/sheet.png"
    tag = client.get(path).headers["etag"]
    response = client.get(path, headers={"If-None-Match": form.format(tag=tag)})
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["etag"] in (tag, form.format(tag=tag))
    assert "immutable" in response.headers["cache-control"]


def test_a_client_with_other_bytes_gets_these(client: httpx.Client, jobs: Jobs) -> None:
    path = f"/v1/jobs/{finished(jobs)}/artifacts/sheet.png"
    response = client.get(path, headers={"If-None-Match": '"other"'})
    assert response.content == FIGURE


def test_head_tells_size_and_tag(client: httpx.Client, jobs: Jobs) -> None:
    path = f"/v1/jobs/{finished(jobs)}/artifacts/sheet.png"
    response = client.head(path)
    assert response.status_code == 200
    assert response.content == b""
    assert int(response.headers["content-length"]) == len(FIGURE)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["etag"] == client.get(path).headers["etag"]


@pytest.mark.parametrize(
    "name",
    ["..%2fresult.json", "%2e%2e/%2e%2e/x", ".hidden", "sub/result.json", "", "%00", "none.png"],
)
def test_names_that_are_not_there_are_not_found(
    client: httpx.Client, jobs: Jobs, name: str
) -> None:
    response = client.get(f"/v1/jobs/{finished(jobs)}/artifacts/{name}")
    assert response.status_code == 404
    assert "lists the" in str(problem_of(response, "not-found")["detail"])


def test_a_name_that_can_be_none_is_refused_before_the_end_too(
    client: httpx.Client, jobs: Jobs
) -> None:
    response = client.get(f"/v1/jobs/{started(jobs).job_id}/artifacts/..%2fresult.json")
    assert response.status_code == 404
    assert "plain file names" in str(problem_of(response, "not-found")["detail"])


def test_head_reads_no_bytes(client: httpx.Client, jobs: Jobs) -> None:
    job_id = finished(jobs)
    stored = jobs.store.artifacts(job_id)
    assert stored is not None
    jobs.artifacts.discard(job_id, stored.token)
    assert client.head(f"/v1/jobs/{job_id}/artifacts/sheet.png").status_code == 200


@pytest.mark.parametrize("path", ["/result", "/artifacts", "/artifacts/result.json"])
def test_before_the_end_there_is_nothing(client: httpx.Client, jobs: Jobs, path: str) -> None:
    attempt = started(jobs)
    jobs.artifacts.writer(attempt)
    response = client.get(f"/v1/jobs/{attempt.job_id}{path}")
    assert response.status_code == 409
    assert response.headers["retry-after"] == "1"
    assert "running" in str(problem_of(response, "not-finished")["detail"])


@pytest.mark.parametrize("path", ["/result", "/artifacts", "/artifacts/result.json"])
def test_a_failed_job_says_why_there_is_no_result(
    client: httpx.Client, jobs: Jobs, path: str
) -> None:
    attempt = started(jobs)
    errors = [FieldError(pointer="/layers/0", detail="too deep")]
    jobs.store.fail(attempt, Problem.of(ProblemType.NOT_FINITE, "Layer 1 gave NaN.", errors))
    response = client.get(f"/v1/jobs/{attempt.job_id}{path}")
    assert response.status_code == 409
    problem = problem_of(response, "job-failed")
    assert problem["detail"] == f"{ProblemType.NOT_FINITE.title}: Layer 1 gave NaN."
    assert problem["errors"] == [error.model_dump() for error in errors]
    assert "retry-after" not in response.headers


def test_bytes_taken_from_outside_are_a_problem_of_the_service(
    client: httpx.Client, jobs: Jobs
) -> None:
    job_id = finished(jobs)
    stored = jobs.store.artifacts(job_id)
    assert stored is not None
    jobs.artifacts.discard(job_id, stored.token)
    response = client.get(f"/v1/jobs/{job_id}/result")
    assert response.status_code == 503
    problem_of(response, "unavailable")


@pytest.mark.parametrize("path", ["result", "artifacts/sheet.png", "archive"])
def test_bytes_that_go_with_their_job_while_they_are_asked_for_are_gone(
    client: httpx.Client, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    job_id = finished(jobs)
    stream, sizes = ArtifactStore.stream, ArtifactStore.sizes

    def removed(self: ArtifactStore, *asked: Any) -> Any:
        jobs.remove(job_id, Departure.EXPIRED)
        return (sizes if len(asked) == 2 else stream)(self, *asked)

    monkeypatch.setattr(ArtifactStore, "stream", removed)
    monkeypatch.setattr(ArtifactStore, "sizes", removed)
    response = client.get(f"/v1/jobs/{job_id}/{path}")
    assert response.status_code == 410
    problem_of(response, "gone")


def test_a_transfer_whose_job_expires_is_broken_off_and_no_bug(
    client: httpx.Client, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = started(jobs)
    writer = jobs.artifacts.writer(attempt)
    large = writer.put("large.png", b"x" * 3 * PIECE, ArtifactKind.FIGURE, "image/png", Shows())
    jobs.store.succeed(attempt, [large])
    piece = ArtifactStore._piece

    def last_piece(self: ArtifactStore, *asked: Any) -> bytes:
        found = piece(self, *asked)
        jobs.remove(attempt.job_id, Departure.EXPIRED)
        return found

    monkeypatch.setattr(ArtifactStore, "_piece", last_piece)
    with capture_logs() as lines, pytest.raises(httpx.RemoteProtocolError):
        client.get(f"/v1/jobs/{attempt.job_id}/artifacts/large.png")
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("transfer broken off", "warning"),
        ("request", "info"),
    ]
