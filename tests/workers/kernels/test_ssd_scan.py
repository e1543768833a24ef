"""The scan of SSD mixers against its materialised twin, and whole models against their own."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from schemas import pieces
from tests.reference import ssd as slow
from tests.tiny_architectures import ARCHITECTURES
from workers.kernels import mamba, ssd_scan

STATE_SPACE = ("mamba2", "bamba", "granitemoehybrid", "zamba2", "falcon_h1", "nemotron_h")


def _inputs(
    texts: int, length: int, groups: int, per_group: int, width: int, n: int, seed: int
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    heads = groups * per_group
    delta = torch.nn.functional.softplus(draw(texts, length, heads) - 1)
    x, A = draw(texts, length, heads, width), -torch.exp(1.5 * draw(heads))
    return [x, delta, A, draw(texts, length, groups, n), draw(texts, length, groups, n)]


def _twin(inputs: list[Tensor]) -> Tensor:
    x, delta, A, B, C = (v.double() for v in inputs)
    found = []
    for text in range(len(x)):
        alpha = slow.alpha(delta[text].numpy(), A.numpy(), B[text].numpy(), C[text].numpy())
        found.append(torch.einsum("hts,shp->thp", torch.from_numpy(alpha), x[text]))
    return torch.stack(found)


def _close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == wanted.shape
    largest = float(wanted.abs().max())
    assert float((found.double() - wanted.double()).abs().max()) <= tolerance * largest + 1e-30


@settings(max_examples=20, deadline=None)
@given(
    texts=st.integers(1, 2),
    length=st.integers(1, 140),
    groups=st.integers(1, 2),
    per_group=st.integers(1, 2),
    width=st.integers(1, 3),
    n=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_the_scan_is_its_attention(**shape: int) -> None:
    inputs = _inputs(**shape)
    _close(ssd_scan.ssd_scan(*inputs)[0], _twin(inputs))


def test_a_text_goes_on_from_its_state() -> None:
    inputs = _inputs(2, 150, 2, 2, 3, 4, 0)
    whole, last = ssd_scan.ssd_scan(*inputs)
    state, found = None, []
    for start, stop in ((0, 1), (1, 70), (70, 150)):
        x, delta, A, B, C = (v if v.ndim == 1 else v[:, start:stop] for v in inputs)
        y, state = ssd_scan.ssd_scan(x, delta, A, B, C, state)
        found.append(y)
    _close(torch.cat(found, 1), whole)
    assert state is not None
    _close(state, last)


@pytest.mark.parametrize("piece", [64, 1024])
def test_gradients_are_those_of_the_plain_recurrence(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PASS_SSD", piece)
    inputs = _inputs(2, 150, 2, 2, 3, 4, 0)
    first = torch.randn(2, 4, 4, 3, generator=torch.Generator().manual_seed(3))
    outer = torch.randn(2, 150, 4, 3, generator=torch.Generator().manual_seed(4))

    def gradients(scan: Any, dtype: torch.dtype) -> list[Tensor]:
        leaves = [v.detach().to(dtype).requires_grad_() for v in (*inputs, first)]
        y, last = scan(*leaves)
        total = (y * outer.to(dtype)).sum() + last.square().sum()
        return list(torch.autograd.grad(total, leaves))

    ours = gradients(ssd_scan.ssd_scan, torch.float32)
    for found, wanted in zip(ours, gradients(_recurrence, torch.float64), strict=True):
        _close(found, wanted, 2e-5)


def _recurrence(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    per_group = x.shape[2] // B.shape[2]
    B, C = (v.repeat_interleave(per_group, 2) for v in (B, C))
    found = []
    for t in range(x.shape[1]):
        decay = torch.exp(A * delta[:, t])[..., None, None]
        given = B[:, t, :, :, None] * (delta[:, t, :, None] * x[:, t])[:, :, None]
        state = decay * state + given
        found.append(torch.einsum("bhn,bhnp->bhp", C[:, t], state))
    return torch.stack(found, 1), state


def test_shapes_that_do_not_fit_are_refused() -> None:
    x, delta, A, B, C = _inputs(1, 5, 2, 2, 3, 4, 0)
    with pytest.raises(ValueError, match="do not go together"):
        ssd_scan.ssd_scan(x, delta, A[:1], B, C)
    with pytest.raises(ValueError, match="do not go together"):
        ssd_scan.ssd_scan(x, delta, A, B[:, :4], C)
    with pytest.raises(ValueError, match="must be"):
        ssd_scan.ssd_scan(x[0], delta, A, B, C)


@pytest.mark.parametrize("name", STATE_SPACE)
def test_whole_models_compute_what_their_own_scans_do(name: str, tmp_path: Any) -> None:
    from transformers import AutoModelForCausalLM

    path = ARCHITECTURES[name][0](tmp_path / name)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    mamba.uninstall()
    wanted = _logits_and_gradient(model)
    with mamba.installed():
        found = _logits_and_gradient(model)
    for ours, theirs in zip(found, wanted, strict=True):
        _close(ours, theirs, 5e-5)
    assert not torch.equal(found[0], wanted[0])


def _logits_and_gradient(model: Any) -> tuple[Tensor, Tensor]:
    ids = torch.arange(2 * 30).reshape(2, 30) % 40
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings, use_cache=False).logits
    (gradient,) = torch.autograd.grad(logits[0, -1, 3], embeddings)
    return logits.detach(), gradient
