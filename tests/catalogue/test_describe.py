import json
import os
from pathlib import Path
from typing import Any

import pytest

from catalogue.cached import description
from catalogue.describe import describe
from catalogue.locate import Location
from schemas.names import Method, Mixer
from schemas.problem import ProblemError, ProblemType
from tests.catalogue.models import GPT2, MAMBA, save_model

LIMIT = 4096


def place(directory: Path, config: dict[str, Any] = MAMBA) -> Location:
    return Location("m", "directory", save_model(directory, config))


def test_a_mamba_has_s6_on_every_layer_and_all_methods(tmp_path: Path) -> None:
    described = describe(place(tmp_path), service_limit=100)
    assert [layer.mixer for layer in described.layers] == [Mixer.S6] * 3
    assert all(layer.methods == list(Method) for layer in described.layers)
    assert (described.hidden_size, described.channels, described.d_state) == (8, 16, 4)
    assert (described.vocab_size, described.max_tokens) == (8, 100)
    assert described.default_layers == [0, 1, 2]
    assert described.resident_on == []


def test_channels_come_from_expand_not_from_a_stale_key(tmp_path: Path) -> None:
    described = describe(place(tmp_path, MAMBA | {"expand": 1.5, "intermediate_size": 99}), LIMIT)
    assert described.channels == 12


def test_a_transformer_has_no_methods_and_its_own_limit(tmp_path: Path) -> None:
    described = describe(place(tmp_path, GPT2), service_limit=100)
    assert [layer.mixer for layer in described.layers] == [Mixer.SOFTMAX] * 2
    assert all(layer.methods == [] for layer in described.layers)
    assert (described.channels, described.d_state, described.max_tokens) == (None, None, 4)
    assert describe(place(tmp_path, GPT2), service_limit=3).max_tokens == 3


def test_an_architecture_without_a_known_mixer_says_none(tmp_path: Path) -> None:
    described = describe(place(tmp_path, MAMBA | {"model_type": "rwkv"}), LIMIT)
    assert {layer.mixer for layer in described.layers} == {Mixer.NONE}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"model_type": None}, "`model_type`"),
        ({"hidden_size": 0}, "`hidden_size`"),
        ({"hidden_size": "8"}, "`hidden_size`"),
        ({"num_hidden_layers": None}, "`num_hidden_layers`"),
        ({"num_hidden_layers": True}, "`num_hidden_layers`"),
        ({"vocab_size": -1}, "`vocab_size`"),
        ({"state_size": 1.5}, "`state_size`"),
        ({"expand": 0}, "`expand`"),
        ({"expand": float("nan")}, "`expand`"),
        ({"max_position_embeddings": 0}, "`max_position_embeddings`"),
    ],
)
def test_a_broken_config_is_named(tmp_path: Path, change: dict[str, Any], names: str) -> None:
    with pytest.raises(ProblemError, match=names) as caught:
        describe(place(tmp_path, MAMBA | change), LIMIT)
    assert caught.value.kind is ProblemType.MODEL_INVALID


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_config_that_is_no_json_object_is_a_typed_problem(tmp_path: Path, content: bytes) -> None:
    location = place(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ProblemError) as caught:
        describe(location, LIMIT)
    assert caught.value.kind is ProblemType.MODEL_INVALID


def test_a_missing_config_and_a_missing_snapshot_are_typed_problems(tmp_path: Path) -> None:
    with pytest.raises(ProblemError) as missing:
        describe(Location("m", "directory", tmp_path), LIMIT)
    assert missing.value.kind is ProblemType.MODEL_INVALID
    with pytest.raises(ProblemError) as absent:
        describe(Location("m", "hugging-face", None), LIMIT)
    assert absent.value.kind is ProblemType.MODEL_UNAVAILABLE


def test_the_remembered_description_follows_the_file(tmp_path: Path) -> None:
    location = place(tmp_path)
    first = description(location, 100)
    assert description(location, 100) is first
    assert description(location, 50).max_tokens == 50
    config = tmp_path / "config.json"
    config.write_text(json.dumps(MAMBA | {"num_hidden_layers": 9}))
    os.utime(config, ns=(1, 1))
    assert len(description(location, 100).layers) == 9
