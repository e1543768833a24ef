"""What a request reads of models with and without mixers, and of a mixture."""

import pytest

from catalogue.selection import select
from schemas.catalogue import LayerDescription, ModelDescription
from schemas.names import Dtype, Method, Mixer
from schemas.request import JobRequest


def model(*mixers: Mixer) -> ModelDescription:
    layers = [
        LayerDescription(layer=i, mixer=mixer, methods=[] if mixer == "none" else list(Method))
        for i, mixer in enumerate(mixers)
    ]
    return ModelDescription(
        id="some/model",
        source="directory",
        architecture="kind",
        layers=layers,
        hidden_size=4,
        channels=8,
        d_state=2,
        dt_rank=1,
        vocab_size=10,
        parameters=None,
        stored_bytes=None,
        dtype=Dtype.FLOAT32,
        max_tokens=100,
        max_row_tokens=100,
        default_layers=[0],
        resident_on=[],
    )


def request(**fields: object) -> JobRequest:
    return JobRequest.model_validate({"texts": ["a"], **fields})


S6, MLP = Mixer.S6, Mixer.NONE


def test_rollout_traces_the_layers_below() -> None:
    chosen = select(request(layers=[3]), model(S6, MLP, S6, S6, S6))
    assert chosen.layers == [3]
    assert chosen.traced == {0, 2, 3}
    assert chosen.gradient == {3}
    assert chosen.unavailable is None


def test_without_rollout_only_the_listed_layers_are_traced() -> None:
    methods = {"methods": ["attention_weighted"]}
    chosen = select(request(layers=[3, 1], attention=methods), model(S6, S6, S6, S6))
    assert (chosen.layers, chosen.traced, chosen.gradient) == ([1, 3], {1, 3}, set())


@pytest.mark.parametrize("method", ["gradient_guided", "contribution"])
def test_which_methods_need_the_gradient(method: str) -> None:
    chosen = select(request(layers="all", attention={"methods": [method]}), model(S6, S6))
    assert chosen.gradient == {0, 1}


def test_attention_switched_off() -> None:
    chosen = select(request(attention=None), model(S6))
    assert (chosen.layers, chosen.traced, chosen.methods) == ([], set(), [])
    assert chosen.unavailable == "The request has `attention` set to null."


def test_a_model_without_mixers() -> None:
    chosen = select(request(), model(MLP, MLP))
    assert chosen.layers == []
    assert chosen.traced == set()
    assert "`some/model` (kind) has no layer" in str(chosen.unavailable)
    assert "none of its layers carries a token mixer" in str(chosen.unavailable)


def test_layers_of_a_mixture_that_cannot_be_read_are_named() -> None:
    chosen = select(request(layers="all"), model(S6, MLP, S6))
    assert chosen.layers == [0, 2]
    assert "Layer 1 of `some/model` carries no token mixer, only an MLP" in str(chosen.unavailable)
    assert "layers that do: 0, 2" in str(chosen.unavailable)


def test_none_of_the_listed_layers_can_be_read() -> None:
    chosen = select(request(layers=[1]), model(S6, MLP))
    assert (chosen.layers, chosen.traced) == ([], set())
