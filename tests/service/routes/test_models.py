import shutil

import httpx

from jobs import Jobs
from schemas.catalogue import ModelDescription, ModelList
from schemas.settings import Settings
from tests.catalogue.models import save_model
from tests.service.conftest import problem_of


def test_models_are_listed_with_links_that_lead_to_them(client: httpx.Client) -> None:
    listed = ModelList.model_validate(client.get("/v1/models").json())
    names = [model.id for model in listed.models if model.source == "directory"]
    assert names == ["owner/short", "tiny"]
    assert "gpt2" in listed.allowed_hugging_face_ids
    for model in listed.models:
        described = ModelDescription.model_validate(client.get(model.href).json())
        assert (described.id, described.source) == (model.id, model.source)


def test_a_model_is_described_with_the_service_limit(client: httpx.Client) -> None:
    tiny = ModelDescription.model_validate(client.get("/v1/models/tiny").json())
    assert (tiny.architecture, len(tiny.layers), tiny.max_tokens) == ("mamba", 3, 50)
    assert client.get("/v1/models/owner/short").json()["max_tokens"] == 4


def test_it_says_which_workers_hold_a_model(client: httpx.Client, jobs: Jobs) -> None:
    jobs.presence.announce("one", ready=True, models=["tiny"], pid=1)
    jobs.presence.announce("two", ready=True, models=["owner/short"], pid=2)
    assert client.get("/v1/models/tiny").json()["resident_on"] == ["one"]


def test_unknown_models_and_paths_are_not_found(client: httpx.Client) -> None:
    for name in ("nobody", "../tiny", "%2e%2e/%2e%2e/etc", "", "a/b/c", "someone%00"):
        response = client.get(f"/v1/models/{name}")
        assert response.status_code == 404
        assert "tiny" in str(problem_of(response, "not-found")["detail"]) or name == "../tiny"


def test_an_allowed_model_that_is_not_here_says_so(client: httpx.Client) -> None:
    response = client.get("/v1/models/state-spaces/mamba-never-made-hf")
    assert response.status_code == 404
    assert "may be asked for" in str(problem_of(response, "not-found")["detail"])


def test_a_broken_model_is_a_typed_problem(client: httpx.Client, settings: Settings) -> None:
    assert settings.model_dir is not None
    broken = save_model(settings.model_dir / "broken")
    (broken / "config.json").write_text("{")
    response = client.get("/v1/models/broken")
    shutil.rmtree(broken)
    assert response.status_code == 422
    problem_of(response, "model-invalid")
