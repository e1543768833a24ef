"""Webhooks that are refused when the job is submitted, and what is documented of the others."""

import httpx
import pytest

from jobs import Jobs
from schemas.request import JobRequest
from schemas.settings import Settings
from schemas.webhook import WebhookEvent
from service.app import create_app
from service.webhooks import require_deliverable
from tests.service.conftest import SUBMIT, problem_of, serving
from tests.service.webhooks.receivers import SECRET

URL = "https://example.org/hook"


def sent(client: httpx.Client, **webhook: object) -> httpx.Response:
    return client.post("/v1/jobs", json={**SUBMIT, "webhook": webhook})


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://localhost:6379/", "http://169.254.169.254/latest/meta-data"),
        *("http://2130706433/", "http://0x7f.1/", "http://[::ffff:127.0.0.1]/", "http://[::1]/"),
        *("https://user:word@example.org/", "https://example.org:99999/", "https://b%41d.org"),
        *("https://example.org\\@127.0.0.1/", "https://ex ample.org/", "ftp://example.org", "x"),
    ],
)
def test_what_can_be_told_at_once_is_refused_at_once(client: httpx.Client, url: str) -> None:
    response = sent(client, url=url, secret=SECRET)
    assert response.status_code == 422
    [error] = problem_of(response, "invalid-request")["errors"]
    assert error["pointer"] == "/webhook/url"
    assert SECRET not in response.text


@pytest.mark.parametrize(
    "url", ["x", "ftp://example.org", "HTTP://a.b", "https://a/b c", "http://#"]
)
def test_what_is_no_url_is_told_what_one_is(client: httpx.Client, url: str) -> None:
    [error] = problem_of(sent(client, url=url, secret=SECRET), "invalid-request")["errors"]
    assert error["detail"].startswith("Give a URL that begins with `https://`")


def test_a_secret_is_needed_from_one_side(client: httpx.Client, settings: Settings) -> None:
    response = sent(client, url=URL)
    assert response.status_code == 422
    [error] = problem_of(response, "invalid-request")["errors"]
    assert error["pointer"] == "/webhook/secret"
    assert "MAMBASCOPE_WEBHOOK_SECRET" in error["detail"]
    own = Settings(**settings.model_dump() | {"webhook_secret": SECRET})
    with serving(create_app(own), own) as second:
        assert sent(second, url=URL).status_code == 202


def test_both_mistakes_are_named(client: httpx.Client) -> None:
    problem = problem_of(sent(client, url="http://127.0.0.1"), "invalid-request")
    assert [error["pointer"] for error in problem["errors"]] == ["/webhook/url", "/webhook/secret"]
    assert "1 more" in problem["detail"]


def test_loopback_is_taken_where_the_settings_allow_it(settings: Settings) -> None:
    request = JobRequest(**SUBMIT, webhook={"url": "http://localhost:9", "secret": SECRET})
    require_deliverable(request, settings.model_copy(update={"allow_private_webhooks": True}))


def test_the_secret_is_shown_to_nobody(client: httpx.Client, jobs: Jobs) -> None:
    response = sent(client, url=URL, secret=SECRET)
    assert response.status_code == 202
    seen = client.get(response.json()["links"]["self"])
    assert seen.json()["request"]["webhook"] == {"url": URL, "secret": None}
    assert SECRET not in response.text + seen.text


@pytest.mark.parametrize("secret", ["hunter2hunter2hunter2", "whsec_!", "whsec_" + "A" * 33, 5, ""])
def test_a_wrong_secret_is_named_and_not_repeated(client: httpx.Client, secret: object) -> None:
    response = sent(client, url=URL, secret=secret)
    [error] = problem_of(response, "invalid-request")["errors"]
    assert error["pointer"] == "/webhook/secret"
    assert error["detail"].startswith("Give `whsec_`") or not isinstance(secret, str)
    assert len(str(secret)) < 4 or str(secret) not in response.text


def test_the_api_document_describes_each_event(settings: Settings) -> None:
    document = create_app(settings).openapi()
    assert set(document["webhooks"]) == {"job.succeeded", "job.failed", "job.cancelled"}
    for kind, described in document["webhooks"].items():
        operation = described["post"]
        names = [parameter["name"] for parameter in operation["parameters"]]
        assert names == ["webhook-id", "webhook-timestamp", "webhook-signature"]
        content = operation["requestBody"]["content"]["application/json"]
        name = content["schema"]["$ref"].rpartition("/")[2]
        assert set(document["components"]["schemas"][name]["required"]) == set(
            WebhookEvent.model_fields
        )
        example = content["examples"][kind]["value"]
        assert WebhookEvent.model_validate(example).model_dump(mode="json") == example
        assert example["type"] == kind
