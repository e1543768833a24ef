import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.catalogue import Health, MethodList, ModelDescription, ModelList, Readiness
from schemas.job import ArtifactList, Job, JobList
from schemas.problem import Problem, ProblemType
from schemas.result import TextResult
from schemas.settings import Settings
from service.app import create_app
from service.document import document as document_text

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture
def document(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = create_app(settings).openapi()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, verbs in document["paths"].items():
        for verb, described in verbs.items():
            yield f"{verb} {path}", described


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert len(found) > 20
    for reference in found:
        target = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def test_every_route_documents_its_answers(document: dict[str, Any]) -> None:
    known = dict(operations(document))
    assert set(known) == {
        "post /v1/jobs",
        "get /v1/jobs",
        "delete /v1/jobs/{job_id}",
        "post /v1/jobs/{job_id}/cancel",
        "put /v1/jobs/{job_id}/pin",
        "delete /v1/jobs/{job_id}/pin",
        "get /v1/jobs/{job_id}",
        "get /v1/jobs/{job_id}/events",
        "get /v1/jobs/{job_id}/result",
        "get /v1/jobs/{job_id}/archive",
        "get /v1/jobs/{job_id}/artifacts",
        "get /v1/jobs/{job_id}/artifacts/{name}",
        "get /v1/models",
        "get /v1/models/{model_id}",
        "get /healthz",
        "get /readyz",
        "get /metrics",
        "get /v1/methods",
    }
    for described in known.values():
        assert described["description"]
        statuses = set(described["responses"])
        assert statuses & {"200", "202", "204"}
        assert "default" in statuses
        for status, response in described["responses"].items():
            if status == "default" or int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"]
    assert set(known["post /v1/jobs"]["responses"]) == {
        *("202", "400", "401", "408", "410", "413", "415", "422", "429", "503", "default")
    }


def test_names_that_a_generated_client_takes_over(document: dict[str, Any]) -> None:
    known = dict(operations(document))
    assert sorted(described["operationId"] for described in known.values()) == [
        *("cancel_job", "delete_job", "get_archive", "get_artifact", "get_job", "get_model"),
        *("get_result", "healthz", "list_artifacts", "list_jobs", "list_methods", "list_models"),
        *("metrics", "pin_job", "readyz", "submit_job", "unpin_job", "watch_job"),
    ]
    for described in known.values():
        assert all(parameter["description"] for parameter in described.get("parameters", []))


def test_answers_hold_every_field_and_may_gain_more(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["Job"]["required"]) == set(Job.model_fields)
    assert set(schemas["TextResult"]["required"]) == set(TextResult.model_fields)
    assert "additionalProperties" not in schemas["Job"]
    assert schemas["JobRequest"]["required"] == ["texts"]
    assert schemas["JobRequest"]["additionalProperties"] is False
    assert "required" not in schemas["Target"]


def test_examples_are_what_the_contract_says(document: dict[str, Any]) -> None:
    examples = document["components"]["examples"]
    models = {
        "job": Job,
        "cancelled": Job,
        "jobs": JobList,
        "artifacts": ArtifactList,
        "models": ModelList,
        "model": ModelDescription,
        "methods": MethodList,
        "health": Health,
        "readiness": Readiness,
    }
    for name, example in examples.items():
        model = models.get(name, Problem)
        shown = model.model_validate(example["value"])
        assert shown.model_dump(mode="json") == example["value"]
    assert ProblemType.INVALID_REQUEST.slug in examples


def test_the_committed_document_is_this_one() -> None:
    """What a client is generated from does not change unseen."""
    assert COMMITTED.read_text(encoding="utf-8") == document_text(), "run `make openapi`"


def test_every_example_of_a_request_is_accepted(
    client: httpx.Client, document: dict[str, Any]
) -> None:
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) >= 4
    for name, example in body["examples"].items():
        response = client.post("/v1/jobs", json=example["value"])
        assert response.status_code == 202, (name, response.text)
        asked, shown = example["value"], response.json()["request"]
        assert {key: shown[key] for key in asked if key in ("texts", "layers", "reuse")} == {
            key: asked[key] for key in asked if key in ("texts", "layers", "reuse")
        }


def test_the_document_and_the_pages_are_served(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json()["info"]["title"] == "Mambascope"
    assert client.get("/").headers["location"] == "/docs"
    assert client.get("/docs").headers["content-type"].startswith("text/html")


def test_the_docs_ask_nobody_else(client: httpx.Client) -> None:
    response = client.get("/docs")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    links = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"'\s)>]+)", response.text)
    assert [link for link in links if "//" in link] == []
    assert "http://" not in response.text
    assert "https://" not in response.text
