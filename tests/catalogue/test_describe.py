import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import MambaForCausalLM

from catalogue.cached import description
from catalogue.describe import describe
from catalogue.locate import Location
from schemas.names import Method, Mixer
from schemas.problem import ProblemError, ProblemType
from schemas.settings import Settings
from tests.catalogue.models import GPT2, MAMBA, save_model, save_weights
from tests.tiny_architectures import ARCHITECTURES
from tests.tiny_models import save_mamba

SETTINGS = Settings(max_tokens=100, max_row_tokens=3000)


def place(directory: Path, config: dict[str, Any] = MAMBA) -> Location:
    return Location("m", "directory", save_model(directory, config))


def test_a_mamba_has_s6_on_every_layer_and_all_methods(tmp_path: Path) -> None:
    described = describe(place(tmp_path), SETTINGS)
    assert [layer.mixer for layer in described.layers] == [Mixer.S6] * 3
    assert all(layer.methods == list(Method) for layer in described.layers)
    assert (described.hidden_size, described.channels, described.d_state) == (8, 16, 4)
    assert (described.vocab_size, described.dt_rank) == (8, 1)
    assert (described.max_tokens, described.max_row_tokens) == (100, 3000)
    assert (described.parameters, described.stored_bytes) == (None, None)
    assert described.default_layers == [0, 1, 2]
    assert described.resident_on == []


@pytest.mark.parametrize(
    ("keys", "channels"),
    [({"expand": 1.5}, 12), ({"expand": 2, "intermediate_size": 99}, 99)],
)
def test_channels_are_those_of_the_model_that_would_be_built(
    tmp_path: Path, keys: dict[str, float], channels: int
) -> None:
    assert describe(place(tmp_path, MAMBA | keys), SETTINGS).channels == channels


def test_a_models_channels_are_those_that_transformers_builds(tmp_path: Path) -> None:
    path = save_mamba(tmp_path / "wide", intermediate_size=112, num_hidden_layers=1)
    model = MambaForCausalLM.from_pretrained(path)
    location = Location("wide", "directory", path)
    assert describe(location, SETTINGS).channels == len(model.backbone.layers[0].mixer.D)


def test_a_transformer_has_attention_and_its_own_limit(tmp_path: Path) -> None:
    described = describe(place(tmp_path, GPT2), SETTINGS)
    assert [layer.mixer for layer in described.layers] == [Mixer.SOFTMAX] * 2
    assert all(layer.methods == list(Method) for layer in described.layers)
    assert [(layer.channels, layer.heads) for layer in described.layers] == [(8, 2)] * 2
    assert (described.channels, described.d_state, described.dt_rank) == (None, None, None)
    assert (described.max_tokens, described.max_row_tokens) == (4, 4)
    assert describe(place(tmp_path, GPT2), Settings(max_tokens=3)).max_tokens == 3


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("falcon_h1", [Mixer.SOFTMAX] * 3),
        ("zamba2", [None, Mixer.SOFTMAX, None]),
        ("bamba", [None, None, None]),
    ],
)
def test_attention_beside_a_mixer_is_told_and_limits_texts(
    tmp_path: Path, name: str, beside: list[Mixer | None]
) -> None:
    """It is not read, but the model computes it, in quadratic time."""
    save, _ = ARCHITECTURES[name]
    described = describe(Location(name, "directory", save(tmp_path / name)), SETTINGS)
    assert [layer.beside for layer in described.layers] == beside
    assert described.max_row_tokens == described.max_tokens


@pytest.mark.parametrize(
    ("keys", "window"),
    [
        ({"sliding_window": 7}, 7),
        ({}, None),
        ({"sliding_window": 7, "use_sliding_window": False}, None),
        ({"sliding_window": None}, None),
        ({"sliding_window": -1}, None),
        ({"sliding_window": True}, None),
        ({"sliding_window": [7]}, None),
    ],
)
def test_a_window_is_told_where_attention_has_one(
    tmp_path: Path, keys: dict[str, Any], window: int | None
) -> None:
    assert describe(place(tmp_path, GPT2 | keys), SETTINGS).window == window


def test_only_what_reads_rows_in_linear_time_takes_longer_texts_by_them(tmp_path: Path) -> None:
    long = describe(place(tmp_path, GPT2 | {"n_positions": 10_000}), SETTINGS)
    assert (long.max_tokens, long.max_row_tokens) == (100, 100)
    bounded = describe(place(tmp_path, MAMBA | {"max_position_embeddings": 500}), SETTINGS)
    assert (bounded.max_tokens, bounded.max_row_tokens) == (100, 500)
    few = Settings(max_tokens=100, max_row_tokens=50)
    assert describe(place(tmp_path), few).max_row_tokens == 100


def test_an_architecture_without_a_known_mixer_says_none(tmp_path: Path) -> None:
    described = describe(place(tmp_path, MAMBA | {"model_type": "rwkv"}), SETTINGS)
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
        ({"time_step_rank": 0}, "`time_step_rank`"),
        ({"expand": 0}, "`expand`"),
        ({"expand": float("nan")}, "`expand`"),
        ({"max_position_embeddings": 0}, "`max_position_embeddings`"),
    ],
)
def test_a_broken_config_is_named(tmp_path: Path, change: dict[str, Any], names: str) -> None:
    with pytest.raises(ProblemError, match=names) as caught:
        describe(place(tmp_path, MAMBA | change), SETTINGS)
    assert caught.value.kind is ProblemType.MODEL_INVALID


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_config_that_is_no_json_object_is_a_typed_problem(tmp_path: Path, content: bytes) -> None:
    location = place(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ProblemError) as caught:
        describe(location, SETTINGS)
    assert caught.value.kind is ProblemType.MODEL_INVALID


def test_a_missing_config_and_a_missing_snapshot_are_typed_problems(tmp_path: Path) -> None:
    with pytest.raises(ProblemError) as missing:
        describe(Location("m", "directory", tmp_path), SETTINGS)
    assert missing.value.kind is ProblemType.MODEL_INVALID
    with pytest.raises(ProblemError) as absent:
        describe(Location("m", "hugging-face", None), SETTINGS)
    assert absent.value.kind is ProblemType.MODEL_UNAVAILABLE


def test_the_remembered_description_follows_the_file(tmp_path: Path) -> None:
    location = place(tmp_path)
    first = description(location, SETTINGS)
    assert description(location, SETTINGS) is first
    assert description(location, Settings(max_tokens=50)).max_tokens == 50
    config = tmp_path / "config.json"
    config.write_text(json.dumps(MAMBA | {"num_hidden_layers": 9}))
    os.utime(config, ns=(1, 1))
    assert len(description(location, SETTINGS).layers) == 9
    save_weights(tmp_path, 5)
    assert description(location, SETTINGS).parameters == 5


def test_the_size_of_the_weights_is_read_from_their_headers(tmp_path: Path) -> None:
    location = place(tmp_path)
    save_weights(tmp_path, 12, dtype=np.float16)
    described = describe(location, SETTINGS)
    assert (described.parameters, described.stored_bytes) == (12, 24)


@pytest.mark.parametrize("auto", [None, "auto"])
def test_a_rank_that_is_not_named_follows_the_hidden_size(tmp_path: Path, auto: str | None) -> None:
    wide = MAMBA | {"hidden_size": 100, "time_step_rank": auto}
    assert describe(place(tmp_path, wide), SETTINGS).dt_rank == 7
    assert describe(place(tmp_path, MAMBA | {"time_step_rank": 5}), SETTINGS).dt_rank == 5
