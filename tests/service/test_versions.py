from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI

from jobs import Jobs
from schemas.settings import Settings
from service.app import create_app
from service.versions import Deprecation, Deprecations, marked
from tests.service.conftest import finished, problem_of, serving

SINCE = datetime(2027, 1, 1, tzinfo=UTC)
SUNSET = datetime(2028, 1, 1, tzinfo=UTC)
NONE: Deprecations = {}


def marking(settings: Settings, versions: Deprecations, operations: Deprecations) -> FastAPI:
    """The service with something deprecated."""
    app = create_app(settings)
    app.router.routes[:] = marked(app.router.routes, versions, operations)
    return app


def test_an_operation_that_is_deprecated_says_so(settings: Settings, jobs: Jobs) -> None:
    moved = Deprecation(SINCE, SUNSET, "/v1/files/{job_id}/{name}")
    app = marking(settings, NONE, {"get_artifact": moved})
    paths = app.openapi()["paths"]
    assert paths["/v1/jobs/{job_id}/artifacts/{name}"]["get"]["deprecated"] is True
    assert "deprecated" not in paths["/v1/jobs/{job_id}/artifacts"]["get"]
    job_id = finished(jobs)
    with serving(app, settings) as client:
        for name, status in (("sheet.png", 200), ("none%22%3E.png", 404)):
            response = client.get(f"/v1/jobs/{job_id}/artifacts/{name}")
            assert response.status_code == status
            assert response.headers["deprecation"] == "@1798761600"
            assert response.headers["sunset"] == "Sat, 01 Jan 2028 00:00:00 GMT"
            link = f'</v1/files/{job_id}/{name}>; rel="successor-version"'
            assert response.headers["link"] == link
        other = client.get(f"/v1/jobs/{job_id}/artifacts")
        assert "deprecation" not in other.headers


def test_a_version_can_be_deprecated_as_a_whole(settings: Settings, jobs: Jobs) -> None:
    app = marking(settings, {"v1": Deprecation(SINCE, successor="/v2")}, NONE)
    for path, verbs in app.openapi()["paths"].items():
        for described in verbs.values():
            assert described.get("deprecated", False) is path.startswith("/v1/")
    job_id = finished(jobs)
    with serving(app, settings) as client:
        response = client.get(f"/v1/jobs/{job_id}")
        assert response.headers["deprecation"] == "@1798761600"
        assert response.headers["link"] == f'</v2/jobs/{job_id}>; rel="successor-version"'
        assert "sunset" not in response.headers
        refused = client.post("/v1/jobs", json={})
        problem_of(refused, "invalid-request")
        assert refused.headers["link"] == '</v2/jobs>; rel="successor-version"'
        assert "deprecation" not in client.get("/healthz").headers


def test_marking_leaves_other_applications_as_they_are(settings: Settings) -> None:
    marking(settings, {"v1": Deprecation(SINCE)}, NONE)
    for verbs in create_app(settings).openapi()["paths"].values():
        assert not any("deprecated" in described for described in verbs.values())


@pytest.mark.parametrize("path", ["/v2/jobs", "/v2", "/v10/", "/v0.9-beta/jobs/x", "/v2/models"])
def test_a_version_there_is_not_names_those_there_are(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    detail = str(problem_of(response, "not-found")["detail"])
    assert f"no version `{path.split('/')[1]}`" in detail
    assert "`v1`" in detail


@pytest.mark.parametrize("path", ["/v1/nope", "/v1", "/version", "/x/v2", "/v", "/v2" + "x" * 30])
def test_other_paths_are_only_not_there(client: httpx.Client, path: str) -> None:
    detail = str(problem_of(client.get(path), "not-found")["detail"])
    assert "There is nothing at" in detail
