"""Interventions that a model cannot have, each named with its field."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers

from catalogue.admission import admit
from schemas.catalogue import LayerDescription
from schemas.names import Block, Mixer
from schemas.problem import ProblemError, ProblemType
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.catalogue.models import GPT2, MAMBA, save_model, word_tokenizer

MAMBA2: dict[str, Any] = {
    "model_type": "mamba2",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "state_size": 4,
    "expand": 2,
    "num_heads": 4,
    "head_dim": 4,
    "n_groups": 1,
    "vocab_size": 8,
}
NEMOTRON: dict[str, Any] = {
    "model_type": "nemotron_h",
    "hidden_size": 8,
    "layers_block_type": ["mamba", "mlp", "attention"],
    "num_hidden_layers": 3,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "mamba_num_heads": 4,
    "mamba_head_dim": 4,
    "n_groups": 1,
    "ssm_state_size": 4,
    "vocab_size": 8,
}
TWO = {"texts": ["apple 3", "river 7"]}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name, config in (
        ("tiny", MAMBA),
        ("short", GPT2),
        ("two", MAMBA2),
        ("apart", NEMOTRON),
    ):
        save_model(tmp_path / name, config)
    return Settings(model_dir=tmp_path, max_tokens=6, max_row_tokens=9, max_total_tokens=14)


def faults(settings: Settings, perturbation: dict[str, Any], **fields: Any) -> dict[str, str]:
    """What is wrong with a request, by its field."""
    asked = {"models": ["tiny"], "texts": ["apple 3 river"], **fields}
    request = JobRequest(**asked, perturbation={"sets": [one(0, 0)], **perturbation})
    try:
        admit(request, settings)
    except ProblemError as error:
        assert error.kind is ProblemType.INVALID_REQUEST
        return {found.pointer: found.detail for found in error.problem.errors}
    return {}


def one(layer: int, neuron: int, block: str = "mixer") -> dict[str, Any]:
    """A set of one neuron."""
    return {"neurons": [{"layer": layer, "neuron": neuron, "block": block}]}


def test_neurons_that_there_are_are_admitted(settings: Settings) -> None:
    assert faults(settings, {"sets": [one(0, 0), one(2, 15)]}) == {}
    last = [one(1, 7), one(1, 31, "mlp")]
    assert faults(settings, {"sets": last}, models=["short"]) == {}
    apart = [one(0, 15), one(1, 11, "mlp"), one(2, 7)]
    assert faults(settings, {"sets": apart}, models=["apart"]) == {}


@pytest.mark.parametrize(
    ("model", "given", "field", "words"),
    [
        ("tiny", one(3, 0), "layer", "`tiny` has no layer 3: it has 3 layers, name one of 0 to 2"),
        ("tiny", one(2, 16), "neuron", "it has 16 neurons, name one of 0 to 15"),
        ("tiny", one(2, 0, "mlp"), "block", "Layer 2 of `tiny` has no mlp"),
        ("short", one(1, 8), "neuron", "0 to 7"),
        ("short", one(1, 32, "mlp"), "neuron", "the mlp of layer 1 of `short`".capitalize()),
        ("apart", one(1, 0), "block", "name its mlp"),
        ("apart", one(0, 0, "mlp"), "block", "name its mixer"),
    ],
)
def test_a_neuron_that_is_not_there_is_named(
    settings: Settings, model: str, given: dict[str, Any], field: str, words: str
) -> None:
    found = faults(settings, {"sets": [one(0, 0), given]}, models=[model])
    assert found.keys() == {f"/perturbation/sets/1/neurons/0/{field}"}
    assert words.lower() in next(iter(found.values())).lower()


def test_a_neuron_named_twice_is_refused_once_for_all_models(settings: Settings) -> None:
    listed = [{"layer": 0, "neuron": n} for n in (1, 2, 1)]
    listed.append({"layer": 0, "neuron": 1, "block": "mlp"})
    found = faults(settings, {"sets": [{"neurons": listed[:3]}]}, models=["tiny", "short"])
    assert found.keys() == {"/perturbation/sets/0/neurons/2"}
    assert "twice" in found["/perturbation/sets/0/neurons/2"]
    other = [{"neurons": [listed[1], listed[2], listed[3]]}]
    assert faults(settings, {"sets": other}, models=["short"]) == {}


def test_what_the_config_does_not_tell_is_left_to_the_worker() -> None:
    layer = LayerDescription(layer=0, mixer=Mixer.S6, methods=[], channels=4, mlp_neurons=None)
    assert layer.neurons_of(Block.MLP) is None
    assert layer.neurons_of(Block.MIXER) == 4


KNOWN = {"facts": [{"prompt": "apple 3 apple", "answer": "3"}]}
FOUND: list[tuple[str, dict[str, Any], str]] = [
    ("knowledge_neurons", {}, "`knowledge_neurons`"),
    ("rollout", {"attention": None}, "`rollout` is not asked for"),
    ("contribution", {}, "`attention.methods`"),
    ("variance", {"neurons": None}, "`neurons` is null"),
    ("attribution", {"neurons": {"attribution": False}}, "set `neurons.attribution` to true"),
    ("attribution", {"attention": {"methods": ["rollout"]}}, "No layer of `tiny` needs a gradient"),
    ("text_variance", {}, "two or more"),
    ("delta_variance", {"models": ["two"]}, "the heads of `two`"),
    ("delta_variance", {"models": ["short"]}, "No layer that is read of `short` has a Delta"),
    ("delta_variance", {"models": ["apart"], "layers": [2]}, "or other layers"),
]


@pytest.mark.parametrize(("found_by", "fields", "words"), FOUND)
def test_what_finds_no_neurons_is_refused(
    settings: Settings, found_by: str, fields: dict[str, Any], words: str
) -> None:
    found = faults(settings, {"sets": [{"found_by": found_by}]}, **fields)
    assert found.keys() == {"/perturbation/sets/0/found_by"}
    assert words in found["/perturbation/sets/0/found_by"]


@pytest.mark.parametrize(
    ("found_by", "fields"),
    [
        ("rollout", {}),
        ("contribution", {"attention": {"methods": ["contribution"]}}),
        ("variance", {}),
        ("attribution", {}),
        ("attribution", {"neurons": {"attribution": True}, "attention": None}),
        ("text_variance", TWO),
        ("delta_variance", {}),
    ],
)
def test_what_finds_neurons_is_admitted(
    settings: Settings, found_by: str, fields: dict[str, Any]
) -> None:
    assert faults(settings, {"sets": [{"found_by": found_by}]}, **fields) == {}


@pytest.mark.parametrize(
    ("intervention", "field"),
    [
        ({"kind": "zero", "factor": 0.5}, "factor"),
        ({"kind": "mean", "std": 2.0}, "std"),
        ({"kind": "noise", "factor": 0.5}, "factor"),
        ({"kind": "scale", "std": 2.0, "factor": 3.0}, "std"),
        ({"kind": "scale", "factor": 1.0}, "factor"),
    ],
)
def test_what_says_nothing_to_an_intervention_is_refused(
    settings: Settings, intervention: dict[str, Any], field: str
) -> None:
    found = faults(settings, {"interventions": [{"kind": "zero"}, intervention]})
    assert found.keys() == {f"/perturbation/interventions/1/{field}"}


def test_a_request_is_admitted_again_after_it_was_stored(settings: Settings) -> None:
    kinds = [{"kind": "zero"}, {"kind": "noise", "std": 2.0}, {"kind": "scale", "factor": -1.0}]
    asked = {"models": ["tiny"], "texts": ["apple"]}
    request = JobRequest(**asked, perturbation={"sets": [one(0, 0)], "interventions": kinds})
    admit(JobRequest.model_validate_json(request.model_dump_json()), settings)


@pytest.mark.parametrize(
    ("texts", "pointer", "words"),
    [
        (["apple", "7 " * 10], "/perturbation/control_texts/1", "10 tokens in `tiny`"),
        (["7 " * 6, "7 " * 6], "/perturbation/control_texts", "15 tokens together in `tiny`"),
    ],
)
def test_control_texts_that_do_not_fit_are_named(
    settings: Settings, texts: list[str], pointer: str, words: str
) -> None:
    found = faults(settings, {"control_texts": texts})
    assert found.keys() == {pointer}
    assert words in found[pointer]


def test_control_texts_that_fit_are_admitted(settings: Settings) -> None:
    assert faults(settings, {"control_texts": ["7 " * 9]}) == {}


def test_a_control_text_without_tokens_is_refused(settings: Settings, tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.normalizer = normalizers.Replace("~", " ")
    save_model(tmp_path / "strips", tokenizer=tokenizer)
    found = faults(settings, {"control_texts": ["apple", "~"]}, models=["strips"])
    assert found.keys() == {"/perturbation/control_texts/1"}
    assert "no token" in found["/perturbation/control_texts/1"]


def test_conditions_that_would_pass_too_many_tokens_are_refused(settings: Settings) -> None:
    sets = [{"found_by": "variance"}] * 2
    # Two sets and ten random ones of each under one intervention, and no change: 23 passes.
    asked = {"sets": sets, "random_sets": 10, "control_texts": ["apple"]}
    enough = settings.model_copy(update={"max_perturbed_tokens": 23 * 4})
    assert faults(enough, asked) == {}
    few = settings.model_copy(update={"max_perturbed_tokens": 23 * 4 - 1})
    found = faults(few, asked)
    assert list(found) == ["/perturbation"]
    assert "22 conditions" in found["/perturbation"]
    assert "92 tokens to pass; a job may pass 91" in found["/perturbation"]


def test_random_sets_that_would_draw_too_many_neurons_are_refused(settings: Settings) -> None:
    asked = {"sets": [{"found_by": "variance", "count": 10_000}] * 2, "random_sets": 200}
    found = faults(settings, asked)
    assert list(found) == ["/perturbation/random_sets"]
    assert "would draw 4000000 neurons" in found["/perturbation/random_sets"]
