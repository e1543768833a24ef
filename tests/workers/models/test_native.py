"""Loading mamba_ssm's own checkpoints: its logits, and nothing run of what a pickle asks for."""

import json
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from catalogue.locate import locate
from schemas.problem import ProblemError, ProblemType
from schemas.settings import Settings
from tests.native_models import CHECKPOINT, MAMBA, MAMBA2, mamba, mamba2, native_state, save_native
from tests.reference import mamba_ssm
from workers.models.loading import LoadedModel, load
from workers.models.residency import Residency

EMBEDDING, HEAD = "backbone.embedding.weight", "lm_head.weight"
IDS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 36])
KINDS = [pytest.param(mamba, MAMBA, id="mamba"), pytest.param(mamba2, MAMBA2, id="mamba2")]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return save_native(tmp_path / "model", MAMBA, native_state(mamba()))


def _load(directory: Path) -> LoadedModel:
    settings = Settings(model_dir=directory.parent, device="cpu")
    return load(locate(directory.name, settings), settings)


def _refused(directory: Path) -> str:
    with pytest.raises(ProblemError) as caught:
        _load(directory)
    assert caught.value.kind is ProblemType.MODEL_INVALID
    assert "`model`" in str(caught.value)
    return str(caught.value)


def _change(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Save the state dict again, changed."""
    state = native_state(mamba())
    change(state)
    torch.save(state, directory / CHECKPOINT)


def _rewrite(
    directory: Path, change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> None:
    """Write the file's zip again, its pickle program changed."""
    with zipfile.ZipFile(directory / CHECKPOINT) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(directory / CHECKPOINT, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, change(data) if name.endswith("data.pkl") else data)


@pytest.mark.parametrize(("make", "config"), KINDS)
def test_logits_are_those_of_the_model(
    tmp_path: Path, make: Callable[[], Any], config: dict[str, Any]
) -> None:
    model = make()
    state = native_state(model)
    loaded = _load(save_native(tmp_path / "model", config, state))
    assert loaded.description.architecture == loaded.provenance.architecture
    with torch.no_grad():
        logits = loaded.model(input_ids=IDS[None]).logits[0]
        assert torch.equal(logits, model(input_ids=IDS[None]).logits[0])
        # float32, as the model computes, against float64: some 1e-6 of the largest logit.
        exact = mamba_ssm.logits({k: t.double() for k, t in state.items()}, config, IDS)
    torch.testing.assert_close(logits.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_an_untied_head_is_kept(tmp_path: Path) -> None:
    model = mamba(tied=False)
    path = save_native(tmp_path / "model", MAMBA | {"tie_embeddings": False}, native_state(model))
    loaded = _load(path).model
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert torch.equal(loaded.backbone.embeddings.weight, model.backbone.embeddings.weight)
    (path / "config.json").write_text(json.dumps(MAMBA))
    assert f"ties {HEAD} to {EMBEDDING}, but the two differ" in _refused(path)


def test_parameters_and_metadata_are_tensors_too(tmp_path: Path) -> None:
    """A module's own state dict carries metadata; half precision is widened exactly."""
    model = mamba()
    half: Any = OrderedDict(
        (key, torch.nn.Parameter(t.bfloat16())) for key, t in native_state(model).items()
    )
    half._metadata = model.state_dict()._metadata
    loaded = _load(save_native(tmp_path / "model", MAMBA, half))
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], tensor.bfloat16().float())


def test_safetensors_win_and_are_renamed_too(directory: Path) -> None:
    (directory / CHECKPOINT).write_bytes(b"never read")
    state = native_state(mamba(tied=False))
    (directory / "config.json").write_text(json.dumps(MAMBA | {"tie_embeddings": False}))
    save_file({key: t.contiguous() for key, t in state.items()}, directory / "model.safetensors")
    weight = _load(directory).model.backbone.embeddings.weight
    assert torch.equal(weight, state[EMBEDDING])


def test_tensors_of_transformers_names_are_refused(directory: Path) -> None:
    _change(directory, lambda state: state.update({"backbone.embeddings.weight": torch.ones(3)}))
    assert "backbone.embeddings.weight is no name of mamba_ssm's format" in _refused(directory)


def test_weights_outlive_their_file(directory: Path) -> None:
    loaded = _load(directory).model
    before = {key: tensor.clone() for key, tensor in loaded.state_dict().items()}
    with (directory / CHECKPOINT).open("r+b") as stream:
        stream.write(b"\xff" * (directory / CHECKPOINT).stat().st_size)
        stream.truncate(10)
    assert all(torch.equal(before[key], t) for key, t in loaded.state_dict().items())


def test_a_changed_checkpoint_is_read_again(directory: Path) -> None:
    residency = Residency(Settings(model_dir=directory.parent, device="cpu"))
    first, _ = residency.get("model")
    assert residency.get("model") == (first, False)
    _change(directory, lambda state: state["backbone.norm_f.weight"].add_(1))
    again, fresh = residency.get("model")
    assert fresh
    assert again.provenance.weights_sha256 != first.provenance.weights_sha256


class _Writer:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "ran"))


@pytest.mark.parametrize("is_native", [True, False])
def test_what_a_pickle_asks_for_never_runs(
    directory: Path, tmp_path: Path, is_native: bool
) -> None:
    marker = tmp_path / "ran"
    _change(directory, lambda state: state.update(evil=_Writer(marker)))
    if not is_native:
        (directory / "config.json").write_text(json.dumps({"model_type": "mamba"} | _HF))
    said = _refused(directory)
    assert not marker.exists()
    assert (CHECKPOINT in said and "never run" in said) if is_native else "pickled" in said
    torch.load(directory / CHECKPOINT, weights_only=False)
    assert marker.read_text() == "ran"


_HF = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "expand": 2, "vocab_size": 40}


def test_torchs_own_unpickler_is_the_second_lock(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    _change(directory, lambda state: state.update(evil=_Writer(marker)))
    monkeypatch.setattr("catalogue.pickled.inspect", lambda file: None)
    assert f"{CHECKPOINT} is refused by torch's unpickler" in _refused(directory)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("backbone.layers.1.mixer.D"), "describes: backbone.layers.1.mixer.D"),
        (lambda s: s.pop(EMBEDDING), "describes: backbone.embeddings.weight"),
        (lambda s: s.update(more=torch.ones(2)), "does not describe: more"),
        (
            lambda s: s.update({"backbone.norm_f.weight": torch.ones(17)}),
            "do not fit its config.json: backbone.norm_f.weight",
        ),
        (lambda s: s.update({HEAD: s[HEAD] + 1}), "but the two differ"),
        (lambda s: s.update(step=torch.tensor([3])), "torch.LongStorage"),
        (lambda s: s.update(step=3), "`step` in pytorch_model.bin is no tensor but a int"),
        (lambda s: s.update(rate=1e-3), "more than tensors"),
        (lambda s: s.update(model={"a": torch.ones(2)}), "`model` in pytorch_model.bin"),
        (lambda s: s.update({7: torch.ones(2)}), "whose name is no string"),
        (lambda s: s.update(a=torch.ones(1).expand(10**6, 10**6)), "claim more numbers"),
        (lambda s: s.update(a=torch.ones(2, device="meta")), "_rebuild_meta_tensor"),
        (lambda s: s.update(a=torch.ones(2).to_sparse()), "_rebuild_sparse_tensor"),
        (lambda s: s.update(a=torch.ones(2, dtype=torch.complex64)), "ComplexFloatStorage"),
    ],
)
def test_other_contents_are_refused(
    directory: Path, change: Callable[[dict[Any, Any]], object], said: str
) -> None:
    _change(directory, change)
    assert said in _refused(directory)


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), {}, 3])
def test_no_state_dict(directory: Path, content: Any) -> None:
    torch.save(content, directory / CHECKPOINT)
    _refused(directory)


@pytest.mark.parametrize("keep", [0, 5, 400, -7, -3000])
def test_a_truncated_checkpoint(directory: Path, keep: int) -> None:
    data = (directory / CHECKPOINT).read_bytes()
    (directory / CHECKPOINT).write_bytes(data[:keep])
    assert f"{CHECKPOINT} is truncated" in _refused(directory)


def test_a_checkpoint_before_zips(directory: Path) -> None:
    torch.save(native_state(mamba()), directory / CHECKPOINT, _use_new_zipfile_serialization=False)
    assert "older than torch 1.6" in _refused(directory)


def test_claims_beyond_the_file(directory: Path) -> None:
    """A count of numbers, then a shape, far beyond the bytes there are."""
    torch.save({EMBEDDING: torch.zeros(300)}, directory / CHECKPOINT)
    told, huge = b"M" + (300).to_bytes(2, "little"), b"J" + (2**31 - 1).to_bytes(4, "little")
    sound = (directory / CHECKPOINT).read_bytes()
    _rewrite(directory, lambda program: program.replace(told, huge, 1))
    assert "does not hold the numbers that its tensors name" in _refused(directory)
    (directory / CHECKPOINT).write_bytes(sound)
    _rewrite(directory, lambda program: huge.join(program.rsplit(told, 1)))
    assert "refused by torch's unpickler" in _refused(directory)


def test_a_compressed_checkpoint_is_not_unfolded(directory: Path) -> None:
    _rewrite(directory, lambda program: program, zipfile.ZIP_DEFLATED)
    assert "is compressed" in _refused(directory)


def test_a_missing_tokenizer_is_named(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ProblemError, match=r"put the tokenizer\.json of `EleutherAI/gpt-neox-20b`"):
        _load(directory)


def test_no_other_pickle_is_read(directory: Path) -> None:
    (directory / CHECKPOINT).rename(directory / "weights.bin")
    assert "pickled, which is never loaded" in _refused(directory)
