"""The reads on other devices than the CPU: _reads_torch torch, and Triton's kernels.

Without a GPU the kernels run under Triton's interpreter (see tests/conftest.py), which is slow, so
their texts are short; with one the same tests compile and run them there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.reference import hidden_attention as reference
from tests.workers.kernels.test_hidden_attention import TOLERANCE, Text, close, make
from workers.kernels import _gpu, _reads_torch, hidden_attention

_reads_triton = pytest.importorskip("workers.kernels._reads_triton")

GPU = os.environ["TRITON_INTERPRET"] == "0"
DEVICE = torch.device("cuda" if GPU else "cpu")
READS = pytest.mark.parametrize("reads", [_reads_torch, _reads_triton], ids=["plain", "triton"])

# Up to three programs: one of 17 states has four channels. The scales take exp(A delta) from one
# to zero within a token.
texts = st.builds(
    make,
    st.integers(1, 7),
    st.integers(1, 9),
    st.integers(1, 17),
    st.sampled_from([1e-4, 0.1, 1.0, 30.0]),
    st.integers(0, 10**6),
)


def twice(test: Callable[..., None]) -> Callable[..., None]:
    """A few drawn examples, and two that reach what they may miss."""
    for found in (
        example(make(7, 9, 17, 0.1), 3),
        example(make(1, 1, 1, 30.0), 1),
        given(texts, st.integers(0, 7)),
        settings(deadline=None, max_examples=6),
    ):
        test = found(test)
    return READS(test)


def pieces(text: Text, cut: int, *names: str) -> Iterator[list[Any]]:
    """The named tensors of the tokens before and from `cut` on, as far as there are any."""
    for part in (slice(0, cut), slice(cut, None)):
        found = [vars(text)[name] for name in names]
        if len(text.delta[part]):
            cut_up = [v if name == "A" else v[part] for name, v in zip(names, found, strict=True)]
            yield [v.to(DEVICE) for v in cut_up]


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64, device=DEVICE)


@twice
def test_row(reads: Any, text: Text, cut: int) -> None:
    gap, parts = zeros(text.delta.shape[1]), []
    for delta, A, B in reversed(list(pieces(text, cut, "delta", "A", "B"))):
        parts.insert(0, reads.row(delta, A, B, text.C[-1].to(DEVICE), gap))
    close(
        torch.cat(parts).cpu(),
        reference.attention_row(*text.exact().system, -1),
        magnitudes=reference.attention_row(*text.magnitudes().system, -1),
    )
    assert np.allclose(gap.cpu(), text.exact().delta.sum(0), rtol=1e-14)


@twice
def test_weighted(reads: Any, text: Text, cut: int) -> None:
    length, d = text.delta.shape
    rows = torch.stack([text.r, text.r.flip(0) ** 2, torch.ones(length)])
    exact, sizes, parts = text.exact(), text.magnitudes(), []
    state = zeros(3, d, text.A.shape[1])
    ends = list(pieces(text, cut, "delta", "A", "B", "C", "p", "q"))
    for delta, *rest in reversed(ends):
        done = sum(part.shape[1] for part in parts)
        end = length - done
        r = rows[:, end - len(delta) : end].to(DEVICE)
        parts.insert(0, reads.weighted(delta, *rest[:3], r, *rest[3:], state))
    got = torch.cat(parts, 1).cpu()
    for ours, r in zip(got, rows.double().numpy(), strict=True):
        close(
            ours,
            reference.weighted_row(*exact.system, r, exact.p, exact.q),
            magnitudes=reference.weighted_row(*sizes.system, abs(r), sizes.p, sizes.q),
        )


@twice
def test_moments(reads: Any, text: Text, cut: int) -> None:
    (length, d), n = text.delta.shape, text.A.shape[1]
    carried = zeros(d, n), zeros(d, n, n), zeros(2, d)
    exact, pairs = text.exact(), length * (length + 1) / 2
    for parts in pieces(text, cut, "delta", "A", "B", "C", "p", "q"):
        reads.moments(*parts, *carried)
    got = carried[2].cpu() / pairs
    mean, std = reference.attention_moments(*exact.system, exact.p, exact.q)
    square = mean**2 + std**2
    # Nothing here is float32 but what was given; what may cancel is measured on the root mean
    # square.
    assert np.abs(got[0].numpy() - mean).max() <= 1e-12 * np.sqrt(square).max()
    assert np.allclose(got[1], square, rtol=1e-12, atol=0)


@twice
def test_apply(reads: Any, text: Text, cut: int) -> None:
    exact, sizes = text.exact(), text.magnitudes()
    state = zeros(2, *text.A.shape)
    parts = [reads.apply(*part, state) for part in pieces(text, cut, "delta", "A", "B", "C", "q")]
    out, sums = (torch.cat(found).cpu() for found in zip(*parts, strict=True))
    close(
        out,
        reference.apply_attention(*exact.system, exact.q),
        magnitudes=reference.apply_attention(*sizes.system, sizes.q),
    )
    ones = np.ones_like(exact.q)
    close(
        sums,
        reference.apply_attention(*exact.system, ones).mean(1),
        magnitudes=reference.apply_attention(*sizes.system, ones),
    )


@READS
def test_apply_carries_over_blocks(reads: Any) -> None:
    text = make(19, 2, 2, 0.3)
    state = zeros(2, 2, 2)
    got, _ = reads.apply(*(v.to(DEVICE) for v in (*text.system, text.q)), state)
    exact = text.exact()
    close(got.cpu(), reference.apply_attention(*exact.system, exact.q))


@READS
def test_weights_may_be_one_row_for_all_tokens(reads: Any) -> None:
    text = make(4, 3, 2)
    system = [v.to(DEVICE) for v in text.system]
    row = torch.arange(1.0, 4.0, device=DEVICE)
    expanded = row.expand(4, 3), row.flip(0).expand(4, 3)
    found = []
    for p, q in (expanded, [v.contiguous() for v in expanded]):
        totals = zeros(2, 3)
        reads.moments(*system, p, q, zeros(3, 2), zeros(3, 2, 2), totals)
        r = torch.ones(1, 4, device=DEVICE)
        found.append((totals, reads.weighted(*system, r, p, q, zeros(1, 3, 2))))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_kernels_take_half_precision_and_sum_in_float64() -> None:
    text = make(5, 3, 3)
    half = Text(*(v.bfloat16() for v in vars(text).values()))
    exact = Text(*(v.double().numpy() for v in vars(half).values()))
    system = [v.to(DEVICE) for v in half.system]
    r, p, q = (v.to(DEVICE) for v in (half.r, half.p, half.q))
    close(
        _reads_triton.row(*system[:3], system[3][-1], zeros(3)).cpu(),
        reference.attention_row(*exact.system, -1),
    )
    close(
        _reads_triton.weighted(*system, r[None], p, q, zeros(1, 3, 3))[0].cpu(),
        reference.weighted_row(*exact.system, exact.r, exact.p, exact.q),
    )
    out, _ = _reads_triton.apply(*system, q, zeros(2, 3, 3))
    close(out.cpu(), reference.apply_attention(*exact.system, exact.q))
    totals = zeros(2, 3)
    _reads_triton.moments(*system, p, q, zeros(3, 3), zeros(3, 3, 3), totals)
    wanted = reference.attention_moments(*exact.system, exact.p, exact.q)[0]
    assert np.allclose(totals[0].cpu() / 15, wanted, rtol=1e-12)


def moments(system: list[torch.Tensor], text: Text) -> tuple[torch.Tensor, torch.Tensor]:
    found = hidden_attention.Moments.start(system[1])
    found.read(*system, text.p, text.q)
    length = len(text.delta)
    mean = found.totals[0] / (length * (length + 1) / 2)
    return mean.float(), found.deviation(length)


Function = Callable[[list[torch.Tensor], Text], Any]
FUNCTIONS: dict[str, Function] = {
    "matrix": lambda system, text: hidden_attention.attention_matrix(*system, text.p, text.q),
    "row": lambda system, _: hidden_attention.attention_row(*system, 2),
    "weighted": lambda system, text: hidden_attention.weighted_rows(
        *system, text.r[None], text.p, text.q
    )[0],
    "moments": lambda system, text: moments(system, text),
    "apply": lambda system, text: hidden_attention.apply_attention(*system, text.q)[0],
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_waits_for_the_device(function: Function, dtype: torch.dtype) -> None:
    # A tensor of the meta device has no numbers: whoever asks for one raises.
    text = Text(*(v.to("meta", dtype) for v in vars(make(6, 3, 2)).values()))
    found = function(list(text.system), text)
    for tensor in found if isinstance(found, tuple) else (found,):
        assert (tensor.device.type, tensor.dtype) == ("meta", torch.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.usefixtures("on_a_gpu")
def test_on_a_gpu_the_functions_are_those_of_the_cpu(name: str) -> None:
    text, exact = make(6, 3, 2), make(6, 3, 2).exact()
    got = FUNCTIONS[name]([v.to(DEVICE) for v in text.system], text)
    wanted = {
        "matrix": lambda: reference.attention_matrix(*exact.system, exact.p, exact.q),
        "row": lambda: reference.attention_row(*exact.system, 2),
        "weighted": lambda: reference.weighted_row(*exact.system, exact.r, exact.p, exact.q),
        "moments": lambda: reference.attention_moments(*exact.system, exact.p, exact.q),
        "apply": lambda: reference.apply_attention(*exact.system, exact.q),
    }[name]()
    pairs = zip(got, wanted, strict=True) if name == "moments" else [(got, wanted)]
    for ours, theirs in pairs:
        close(ours.cpu(), theirs, 10 * TOLERANCE)


@pytest.mark.usefixtures("fresh_choice")
def test_a_gpu_is_read_by_triton_and_without_it_by_plain_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_gpu: Any = SimpleNamespace(is_cuda=True)
    assert hidden_attention._reads(on_gpu) is _reads_triton
    assert hidden_attention._reads(torch.ones(1, device="meta")) is _reads_torch
    _gpu.usable.cache_clear()
    monkeypatch.setitem(sys.modules, "workers.kernels._reads_triton", None)
    assert hidden_attention._reads(on_gpu) is _reads_torch
