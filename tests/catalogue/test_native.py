"""Configs in mamba_ssm's own format: what transformers makes of them, and what is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from transformers import Mamba2Config, MambaConfig

from catalogue.cached import description
from catalogue.describe import describe
from catalogue.locate import Location, locate
from catalogue.native import as_transformers, is_native
from catalogue.tokeniser import Tokeniser
from schemas.names import Mixer
from schemas.problem import ProblemError, ProblemType
from schemas.settings import Settings
from tests.catalogue.models import save_model
from tests.native_models import MAMBA, MAMBA2, mamba, mamba2, native_state, save_native

# As published with the checkpoints of 130 million parameters.
PUBLISHED = {
    "d_model": 768,
    "n_layer": 24,
    "vocab_size": 50277,
    "ssm_cfg": {},
    "rms_norm": True,
    "residual_in_fp32": True,
    "fused_add_norm": True,
    "pad_vocab_size_multiple": 8,
}
PUBLISHED2 = PUBLISHED | {
    "d_intermediate": 0,
    "ssm_cfg": {"layer": "Mamba2"},
    "attn_layer_idx": [],
    "attn_cfg": {},
    "pad_vocab_size_multiple": 16,
    "tie_embeddings": True,
}


def test_a_published_mamba() -> None:
    config = MambaConfig(**as_transformers(PUBLISHED, "m"))
    expected = MambaConfig(num_hidden_layers=24)
    assert config.to_dict() == expected.to_dict()
    assert (config.vocab_size, config.intermediate_size, config.time_step_rank) == (50280, 1536, 48)


def test_a_published_mamba2() -> None:
    config = Mamba2Config(**as_transformers(PUBLISHED2, "m"))
    expected = Mamba2Config(
        hidden_size=768,
        num_hidden_layers=24,
        vocab_size=50288,
        num_heads=24,
        n_groups=1,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=0,
    )
    assert config.to_dict() == expected.to_dict()


def test_every_size_is_taken_from_the_config() -> None:
    layer = {"d_state": 5, "d_conv": 3, "expand": 3, "dt_rank": 7, "bias": True, "conv_bias": False}
    made = as_transformers(PUBLISHED | {"ssm_cfg": layer, "tie_embeddings": False}, "m")
    kept = {"state_size": 5, "conv_kernel": 3, "expand": 3, "time_step_rank": 7}
    assert made.items() >= (kept | {"use_bias": True, "use_conv_bias": False}).items()
    assert made["tie_word_embeddings"] is False
    layer = {"layer": "Mamba2", "headdim": 32, "ngroups": 4, "dt_limit": [0.5, 2], "chunk_size": 64}
    made = as_transformers(PUBLISHED2 | {"ssm_cfg": layer}, "m")
    kept = {"head_dim": 32, "num_heads": 48, "n_groups": 4, "chunk_size": 64}
    assert made.items() >= kept.items()
    assert made["time_step_limit"] == (0.5, 2.0)


@pytest.mark.parametrize(("tokens", "multiple", "rows"), [(40, 8, 40), (41, 8, 48), (41, 1, 41)])
def test_rows_are_padded(tokens: int, multiple: int, rows: int) -> None:
    keys = {"vocab_size": tokens, "pad_vocab_size_multiple": multiple}
    assert as_transformers(PUBLISHED | keys, "m")["vocab_size"] == rows


@pytest.mark.parametrize(
    "config",
    [{"model_type": "mamba"} | PUBLISHED, {"d_model": 8}, {"n_layer": 2}, {}, [], None, "d_model"],
)
def test_other_configs_are_left_alone(config: Any) -> None:
    assert not is_native(config)
    if isinstance(config, dict):
        assert as_transformers(config, "m") is config


@pytest.mark.parametrize(
    ("base", "changes", "key", "kind"),
    [
        (PUBLISHED, {"attn_layer_idx": [1]}, "attn_layer_idx", "unsupported-architecture"),
        (PUBLISHED, {"d_intermediate": 64}, "d_intermediate", "unsupported-architecture"),
        (PUBLISHED, {"rms_norm": False}, "rms_norm", "unsupported-architecture"),
        (PUBLISHED, {"ssm_cfg.layer": "Mamba3"}, "ssm_cfg.layer", "unsupported-architecture"),
        (PUBLISHED2, {"ssm_cfg.D_has_hdim": True}, "D_has_hdim", "unsupported-architecture"),
        (PUBLISHED2, {"ssm_cfg.rmsnorm": False}, "rmsnorm", "unsupported-architecture"),
        (PUBLISHED2, {"ssm_cfg.norm_before_gate": True}, "before", "unsupported-architecture"),
        (PUBLISHED2, {"ssm_cfg.d_ssm": 768}, "d_ssm", "unsupported-architecture"),
        (PUBLISHED, {"ssm_cfg": []}, "ssm_cfg", "model-invalid"),
        (PUBLISHED, {"ssm_cfg.headdim": 64}, "ssm_cfg.headdim", "model-invalid"),
        (PUBLISHED, {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map", "model-invalid"),
        (PUBLISHED, {"d_model": "wide"}, "d_model", "model-invalid"),
        (PUBLISHED, {"n_layer": 0}, "n_layer", "model-invalid"),
        (PUBLISHED, {"n_layer": True}, "n_layer", "model-invalid"),
        (PUBLISHED, {"vocab_size": None}, "vocab_size", "model-invalid"),
        (PUBLISHED, {"pad_vocab_size_multiple": 0}, "pad_vocab", "model-invalid"),
        (PUBLISHED, {"tie_embeddings": 1}, "tie_embeddings", "model-invalid"),
        (PUBLISHED, {"ssm_cfg.dt_rank": "much"}, "ssm_cfg.dt_rank", "model-invalid"),
        (PUBLISHED, {"ssm_cfg.expand": 1.5}, "ssm_cfg.expand", "model-invalid"),
        (PUBLISHED2, {"ssm_cfg.headdim": 100}, "ssm_cfg.headdim", "model-invalid"),
        (PUBLISHED2, {"ssm_cfg.ngroups": 5}, "ssm_cfg.ngroups", "model-invalid"),
        (PUBLISHED2, {"ssm_cfg.dt_limit": [2, 1]}, "ssm_cfg.dt_limit", "model-invalid"),
        (PUBLISHED2, {"ssm_cfg.dt_limit": [0, "inf"]}, "ssm_cfg.dt_limit", "model-invalid"),
    ],
)
def test_what_has_no_exact_counterpart_is_refused(
    base: dict[str, Any], changes: dict[str, Any], key: str, kind: str
) -> None:
    config = json.loads(json.dumps(base))
    for path, value in changes.items():
        section, _, last = path.rpartition(".")
        (config[section] if section else config)[last] = value
    with pytest.raises(ProblemError) as caught:
        as_transformers(config, "m")
    assert caught.value.kind.slug == kind
    assert key in str(caught.value) and "`m`" in str(caught.value)


def test_keys_that_change_nothing_are_let_be() -> None:
    """First weights, and kernels that compute the same."""
    drawn = {"dt_min": 0.01, "dt_max": 0.2, "dt_init": "constant", "dt_scale": 2.0}
    config = PUBLISHED | {"ssm_cfg": drawn | {"use_fast_path": False, "layer": "Mamba1"}}
    assert as_transformers(config, "m") == as_transformers(PUBLISHED, "m")
    same = {"layer": "Mamba2", "d_ssm": None, "A_init_range": [1, 16], "conv_init": None}
    same |= {"norm_before_gate": False, "rmsnorm": True, "D_has_hdim": False, "d_ssm": 1536}
    config = PUBLISHED2 | {"ssm_cfg": same, "fused_add_norm": False}
    assert as_transformers(config, "m") == as_transformers(PUBLISHED2, "m")


@pytest.mark.parametrize(
    ("config", "make", "architecture", "mixer", "rows"),
    [(MAMBA, mamba, "mamba", Mixer.S6, 40), (MAMBA2, mamba2, "mamba2", Mixer.SSD, 48)],
)
def test_a_native_directory_is_described(
    tmp_path: Path, config: dict[str, Any], make: Any, architecture: str, mixer: Mixer, rows: int
) -> None:
    model = make()
    path = save_native(tmp_path / "native", config, native_state(model))
    described = describe(Location("m", "directory", path), Settings())
    assert (described.architecture, described.hidden_size) == (architecture, 16)
    assert [layer.mixer for layer in described.layers] == [mixer] * 2
    # A tied head is stored once.
    count = sum(parameter.numel() for parameter in model.parameters())
    assert (described.parameters, described.stored_bytes) == (count, 4 * count)
    assert described.vocab_size == rows
    if mixer is Mixer.S6:
        assert (described.channels, described.d_state, described.dt_rank) == (32, 4, 3)


def test_a_description_follows_the_checkpoint(tmp_path: Path) -> None:
    path = save_native(tmp_path / "native", MAMBA, native_state(mamba()))
    place, settings = Location("m", "directory", path), Settings()
    before = description(place, settings)
    assert description(place, settings) is before
    save_native(path, MAMBA, native_state(mamba(tied=False)))
    os.utime(path / "pytorch_model.bin", ns=(1, 1))
    after = description(place, settings).parameters
    assert after is not None and before.parameters is not None and after > before.parameters


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    save_native(tmp_path, MAMBA, native_state(mamba()), tokeniser=False)
    said = r"put the tokenizer\.json of `EleutherAI/gpt-neox-20b`"
    with pytest.raises(ProblemError, match=said) as caught:
        Tokeniser.load(tmp_path)
    assert caught.value.kind is ProblemType.MODEL_INVALID


def test_a_cached_native_id_reads_the_other_repositorys_tokenizer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = _cache(tmp_path / "models--state-spaces--mamba-tiny")
    save_native(snapshot, MAMBA, native_state(mamba()), tokeniser=False)
    place = locate("state-spaces/mamba-tiny", Settings())
    assert (place.path, place.tokeniser_path) == (snapshot, snapshot)
    other = _cache(tmp_path / "models--EleutherAI--gpt-neox-20b")
    save_model(other)
    place = locate("state-spaces/mamba-tiny", Settings())
    assert (place.path, place.tokeniser_path) == (snapshot, other)
    save_model(snapshot, MAMBA)
    assert locate("state-spaces/mamba-tiny", Settings()).tokeniser_path == snapshot


def _cache(repository: Path) -> Path:
    """The directory of a repository's only snapshot."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    return repository / "snapshots" / revision
