"""Loading from a user's directory: exact weights, and a typed problem for each broken one."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertLMHeadModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MambaForCausalLM,
)
from transformers.models.mamba import modeling_mamba

from catalogue.locate import Location, locate
from schemas.problem import ProblemError, ProblemType
from schemas.settings import Settings
from tests.tiny_models import save_gpt2, save_mamba, word_tokenizer
from workers.kernels import mamba
from workers.models import loading
from workers.models.loading import LoadedModel, choose_device, load

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mamba(tmp_path_factory.mktemp("saved") / "model", bias=True)


@pytest.fixture
def directory(saved: Path, tmp_path: Path) -> Path:
    """A copy of a sound model that a test may break."""
    target = tmp_path / "model"
    target.mkdir()
    for file in saved.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def _load(directory: Path) -> LoadedModel:
    settings = Settings(model_dir=directory.parent, device="cpu")
    return load(locate(directory.name, settings), settings)


def _refused(directory: Path, kind: ProblemType = ProblemType.MODEL_INVALID) -> str:
    with pytest.raises(ProblemError) as caught:
        _load(directory)
    assert caught.value.kind is kind
    assert "model" in str(caught.value)
    return str(caught.value)


def _configure(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _reweigh(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = {key: tensor.clone() for key, tensor in load_file(directory / WEIGHTS).items()}
    change(tensors)
    save_file(tensors, directory / WEIGHTS)


def test_what_runs_is_what_lies_on_disk(directory: Path) -> None:
    loaded = _load(directory)
    on_disk = load_file(directory / WEIGHTS)
    state = loaded.model.state_dict()
    assert state.keys() == on_disk.keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in on_disk.items())
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        # transformers divides `out_proj` of a model with this key whenever it makes one.
        {"rescale_prenorm_residual": True},
        # The files have a head of its own all the same.
        {"tie_word_embeddings": True},
    ],
)
def test_a_config_does_not_change_the_weights(directory: Path, changes: dict[str, Any]) -> None:
    _configure(directory, **changes)
    state = _load(directory).model.state_dict()
    on_disk = load_file(directory / WEIGHTS)
    assert all(torch.equal(state[key], tensor) for key, tensor in on_disk.items())


def test_weights_that_the_library_changes_are_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = MambaForCausalLM.from_pretrained

    def changing(*args: Any, **kwargs: Any) -> Any:
        model, info = make(*args, **kwargs)
        model.backbone.layers[1].mixer.D.data[0] += 1e-6
        return model, info

    monkeypatch.setattr(MambaForCausalLM, "from_pretrained", changing)
    assert "changes these of its weights: backbone.layers.1.mixer.D" in _refused(directory)


def test_provenance_names_the_weights(directory: Path) -> None:
    provenance = _load(directory).provenance
    assert (
        provenance.weights_sha256 == hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest()
    )
    assert (provenance.model, provenance.architecture) == ("model", "mamba")
    assert (provenance.dtype, provenance.device, provenance.kernel) == ("float32", "cpu", "numba")
    assert provenance.revision is None


def test_loading_installs_the_compiled_scan(directory: Path) -> None:
    mamba.uninstall()
    before = modeling_mamba.mamba_selective_scan
    _load(directory)
    assert modeling_mamba.mamba_selective_scan is not before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_files_are_widened_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    path = save_mamba(tmp_path / "half", dtype=dtype)
    state = _load(path).model.state_dict()
    for key, tensor in load_file(path / WEIGHTS).items():
        assert tensor.dtype is dtype
        assert torch.equal(state[key], tensor.float())


def test_tied_heads_are_not_missing(tmp_path: Path) -> None:
    path = save_mamba(tmp_path / "tied", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(path / WEIGHTS)
    model = _load(path).model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_shards_are_read_together(directory: Path) -> None:
    whole = _load(directory).model.state_dict()
    tensors = load_file(directory / WEIGHTS)
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: tensors[key].clone() for key in keys}, directory / file)
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (directory / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    (directory / WEIGHTS).unlink()
    loaded = _load(directory)
    assert all(torch.equal(whole[key], t) for key, t in loaded.model.state_dict().items())
    before = loaded.provenance.weights_sha256
    _reshard(directory / "model-2.safetensors")
    assert _load(directory).provenance.weights_sha256 != before


def test_a_tensor_in_two_shards_is_refused(directory: Path) -> None:
    tensors = load_file(directory / WEIGHTS)
    for file in ("model-1.safetensors", "model-2.safetensors"):
        save_file(tensors, directory / file)
    index = {key: f"model-{1 + at % 2}.safetensors" for at, key in enumerate(sorted(tensors))}
    (directory / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": index}))
    (directory / WEIGHTS).unlink()
    assert "lies in model-2.safetensors and in another shard too" in _refused(directory)


def _reshard(file: Path) -> None:
    save_file({key: tensor + 1 for key, tensor in load_file(file).items()}, file)


def test_a_file_cut_short_later_does_not_touch_the_loaded_model(directory: Path) -> None:
    """Windows on the file would kill the process here with a bus error."""
    loaded = _load(directory)
    os.truncate(directory / WEIGHTS, 0)
    assert all(bool(t.isfinite().all()) for t in loaded.model.state_dict().values())


def test_gpt2_loads_without_a_scan(tmp_path: Path) -> None:
    loaded = _load(save_gpt2(tmp_path / "gpt"))
    assert (loaded.provenance.architecture, loaded.provenance.kernel) == ("gpt2", "none")


def test_missing_tensors_are_named_not_invented(directory: Path) -> None:
    _reweigh(directory, lambda tensors: tensors.pop("backbone.layers.1.mixer.D"))
    assert "describes: backbone.layers.1.mixer.D" in _refused(directory)


def test_left_over_tensors_are_named(directory: Path) -> None:
    _reweigh(directory, lambda tensors: tensors.update({"extra.weight": torch.zeros(3)}))
    assert "does not describe: extra.weight" in _refused(directory)


def test_tensors_of_another_shape_are_named(directory: Path) -> None:
    _reweigh(directory, lambda tensors: tensors.update({"backbone.norm_f.weight": torch.zeros(47)}))
    assert "backbone.norm_f.weight ([47], not [48])" in _refused(directory)


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_weights_that_are_no_real_numbers_are_named(directory: Path, dtype: torch.dtype) -> None:
    _reweigh(directory, lambda t: t.update({"backbone.norm_f.weight": torch.ones(48).to(dtype)}))
    kind = str(dtype).removeprefix("torch.")
    assert f"no real numbers: backbone.norm_f.weight ({kind})" in _refused(directory)


def test_a_refused_config_says_what_was_expected(directory: Path) -> None:
    _configure(directory, conv_kernel="3")
    assert "conv_kernel" in (said := _refused(directory))
    assert "int" in said


def test_a_config_of_another_size_is_refused(directory: Path) -> None:
    _configure(directory, state_size=9)
    assert "do not fit its config.json" in _refused(directory)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 1_000_000}, "describes"),
        ({"num_hidden_layers": 9_000}, "9000 layers"),
        ({"num_hidden_layers": 10_000_000}, "10000000 layers"),
    ],
)
def test_a_config_far_beyond_its_weights_is_refused_without_the_memory(
    directory: Path, changes: dict[str, int], said: str
) -> None:
    _configure(directory, **changes)
    assert said in _refused(directory)


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoModelForCausalLM": "evil.Model"}},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        {"transformers_weights": "../other.safetensors"},
        {"fusion_config": {"x": True}},
        {"attn_implementation": "someone/kernels"},
        {"hidden_size": "wide"},
        {"hidden_size": -1},
        {"hidden_act": "no-such-function"},
        {"conv_kernel": -4},
        {"time_step_rank": "much"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_configs_that_are_refused(directory: Path, changes: dict[str, Any]) -> None:
    _configure(directory, **changes)
    assert "config.json" in _refused(directory)


def test_an_empty_list_of_layers_costs_no_memory(directory: Path) -> None:
    _configure(directory, attention_types=[[["global"], 10**9]])
    assert "attention_types" in _refused(directory)


def test_files_that_change_while_they_are_read_are_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash would be that of other weights than were run."""
    digest = loading.sha256

    def late(files: list[Path]) -> str:
        _reweigh(directory, lambda tensors: tensors["lm_head.weight"].add_(1.0))
        return digest(files)

    monkeypatch.setattr(loading, "sha256", late)
    assert "changed while they were read" in _refused(directory)


def test_a_tokenizer_that_adds_tokens_the_model_does_not_embed(directory: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.post_processor = TemplateProcessing(single="[X] $A", special_tokens=[("[X]", 5000)])
    tokenizer.save(str(directory / "tokenizer.json"))
    assert "5000" in _refused(directory)


def test_the_librarys_own_limit_counts_where_the_config_has_none(tmp_path: Path) -> None:
    path = save_gpt2(tmp_path / "gpt")
    config = json.loads((path / "config.json").read_text())
    del config["n_positions"]
    (path / "config.json").write_text(json.dumps(config))
    weights = load_file(path / WEIGHTS)
    weights["transformer.wpe.weight"] = torch.randn(1024, 16)
    save_file(weights, path / WEIGHTS)
    assert _load(path).description.max_tokens == 1024


def test_code_beside_the_weights_never_runs(directory: Path) -> None:
    (directory / "evil.py").write_text(f"open({str(directory / 'ran')!r}, 'w')\n")
    _configure(
        directory, auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    )
    assert "never run" in _refused(directory)
    assert not (directory / "ran").exists()


def test_broken_config(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "mamba"')
    assert "config.json" in _refused(directory)


@pytest.mark.parametrize("keep", [0, 5, 400, -7])
def test_truncated_weights(directory: Path, keep: int) -> None:
    data = (directory / WEIGHTS).read_bytes()
    (directory / WEIGHTS).write_bytes(data[:keep])
    assert f"{WEIGHTS} is truncated or damaged" in _refused(directory)


def test_garbage_weights(directory: Path) -> None:
    (directory / WEIGHTS).write_bytes(b"\xff" * 5000)
    assert f"{WEIGHTS} is truncated or damaged" in _refused(directory)


def test_pickled_weights_are_never_opened(directory: Path) -> None:
    (directory / WEIGHTS).rename(directory / "pytorch_model.bin")
    assert "pickled" in _refused(directory)


def test_no_weights(directory: Path) -> None:
    (directory / WEIGHTS).unlink()
    assert "it has no weights" in _refused(directory)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "not an index"),
        ("[]", "not an index"),
        ('{"weight_map": {}}', "names no shards"),
        ('{"weight_map": {"a": "../model-1.safetensors"}}', "no safetensors file in it"),
        ('{"weight_map": {"a": "weights.bin"}}', "no safetensors file in it"),
        ('{"weight_map": {"a": "model-1.safetensors"}}', "is missing"),
    ],
)
def test_broken_index_of_shards(directory: Path, index: str, said: str) -> None:
    (directory / WEIGHTS).unlink()
    (directory / f"{WEIGHTS}.index.json").write_text(index)
    assert said in _refused(directory)


def test_missing_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()
    assert "tokenizer.json" in _refused(directory)


def test_a_tokenizer_with_more_tokens_than_the_model_embeds(directory: Path) -> None:
    tokenizer = word_tokenizer(tuple(f"v{index}" for index in range(40)))
    tokenizer.save(str(directory / "tokenizer.json"))
    assert "id 40, but the model embeds only 40" in _refused(directory)


def test_weights_that_are_not_finite(directory: Path) -> None:
    _reweigh(directory, lambda tensors: tensors["backbone.norm_f.weight"].fill_(float("nan")))
    _refused(directory, ProblemType.NOT_FINITE)


@pytest.mark.parametrize("model_type", ["no-such-type", "vit"])
def test_architectures_without_a_causal_language_model(directory: Path, model_type: str) -> None:
    _configure(directory, model_type=model_type)
    _refused(directory, ProblemType.UNSUPPORTED_ARCHITECTURE)


def test_other_activations_have_no_exact_trace(tmp_path: Path) -> None:
    path = save_mamba(tmp_path / "gelu", hidden_act="gelu")
    assert "hidden_act 'gelu'" in _refused(path, ProblemType.UNSUPPORTED_ARCHITECTURE)


def test_models_that_look_ahead_are_refused(tmp_path: Path) -> None:
    config = Gemma3TextConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=16,
        use_bidirectional_attention=True,
    )
    path = _save(Gemma3ForCausalLM(config), tmp_path / "both-ways")
    assert "not causal" in _refused(path, ProblemType.UNSUPPORTED_ARCHITECTURE)


def test_models_whose_head_is_more_than_a_matrix_are_refused(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        is_decoder=True,
    )
    path = _save(BertLMHeadModel(config), tmp_path / "bert")
    assert "not its output embedding" in _refused(path, ProblemType.UNSUPPORTED_ARCHITECTURE)


def _save(model: Any, path: Path) -> Path:
    model.save_pretrained(path)
    word_tokenizer().save(str(path / "tokenizer.json"))
    return path


def test_an_id_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    location = Location("state-spaces/mamba-none-hf", "hugging-face", None)
    with pytest.raises(ProblemError, match="could not be downloaded") as caught:
        load(location, Settings(device="cpu"))
    assert caught.value.kind is ProblemType.MODEL_UNAVAILABLE
    assert "MAMBASCOPE_MODEL_DIR" in str(caught.value)


def test_a_cached_id_needs_no_network(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    location = Location("owner/model-hf", "hugging-face", directory, revision="abc")
    loaded = load(location, Settings(device="cpu"))
    assert (loaded.name, loaded.provenance.revision) == ("owner/model-hf", "abc")


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for wanted in ("gpu", "meta", "cuda:99", ""):
        with pytest.raises(ValueError, match="MAMBASCOPE_DEVICE"):
            choose_device(wanted)
