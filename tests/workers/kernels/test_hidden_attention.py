from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.reference import hidden_attention as reference
from workers.kernels import _contraction, _reads_torch, hidden_attention

# Inputs are rounded to float32 before both sides see them, so what remains is the rounding of the
# exponent (3e-8 times an exponent of up to about 20 that still counts), of the factors, and of a
# float32 sum over (d, n). Measured: at most a few 1e-7 of the sum of the terms' magnitudes, which
# is what rounding is relative to: signed terms may cancel to any small number.
TOLERANCE = 2e-6


@dataclass(frozen=True)
class Text:
    delta: Any
    A: Any
    B: Any
    C: Any
    p: Any
    q: Any
    r: Any

    @property
    def system(self) -> tuple[Any, Any, Any, Any]:
        return self.delta, self.A, self.B, self.C

    def cut(self, at: slice) -> tuple[Any, Any, Any, Any]:
        """The system of some of the tokens."""
        return self.delta[at], self.A, self.B[at], self.C[at]

    def exact(self) -> Text:
        return Text(*(v.double().numpy() for v in vars(self).values()))

    def magnitudes(self) -> Text:
        signed = {name: np.abs(value) for name, value in vars(self.exact()).items() if name != "A"}
        return Text(A=self.exact().A, **signed)


def make(length: int, d: int, n: int, scale: float = 0.1, seed: int = 0) -> Text:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    delta = torch.rand(length, d, generator=draw).pow(3) * scale
    rates = -(torch.rand(d, n, generator=draw) * n + 1e-3)
    weights = normal(length, d), normal(length, d)
    return Text(delta, rates, normal(length, n), normal(length, n), *weights, normal(length))


texts = st.builds(
    make,
    st.integers(1, 70),
    st.integers(1, 20),
    st.integers(1, 17),
    st.sampled_from([0.0, 1e-30, 1e-8, 1e-4, 1e-2, 0.1, 1.0, 30.0, 1e6]),
    st.integers(0, 10**6),
)


def close(
    got: torch.Tensor, wanted: Any, tolerance: float = TOLERANCE, magnitudes: Any = None
) -> None:
    wanted = np.asarray(wanted)
    assert got.dtype == torch.float32
    assert got.shape == wanted.shape
    scale = np.abs(wanted if magnitudes is None else magnitudes).max()
    assert np.abs(got.double().numpy() - wanted).max() <= tolerance * scale


weightings = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=3)


def chosen(source: Text, present: list[tuple[bool, bool]]) -> list[tuple[Any, Any]]:
    """Weightings with p, q or both; each after the first scaled by another power of two."""
    return [
        (source.p / 2**index if with_p else None, source.q if with_q else None)
        for index, (with_p, with_q) in enumerate(present)
    ]


def check_matrices(got: list[torch.Tensor], text: Text, present: list[tuple[bool, bool]]) -> None:
    """Every entry within the tolerance of what was summed for it, to five digits of the largest."""
    exact, sizes = text.exact(), text.magnitudes()
    assert len(got) == len(present)
    for ours, weights, summed in zip(
        got, chosen(exact, present), chosen(sizes, present), strict=True
    ):
        wanted = reference.attention_matrix(*exact.system, *weights)
        magnitudes = reference.attention_matrix(*sizes.system, *summed)
        close(ours, wanted, magnitudes=magnitudes)
        assert not ours.triu(1).any()
        # The exponent's rounding is relative to the exponent, which may reach 87 before the decay
        # is a zero, and decays below float32's smallest normal number are zeros.
        error = np.abs(ours.double().numpy() - wanted)
        assert np.all(error <= 1e-5 * magnitudes + 1e-36 * np.abs(magnitudes).max() + 1e-38)


@settings(deadline=None, max_examples=60)
@given(texts, weightings)
@example(make(64, 3, 5), [(True, True)])
@example(make(33, 20, 17, 30.0), [(True, False), (False, True)])
@example(make(48, 2, 3, 1e-8), [(False, False), (True, True)])
@example(make(1, 1, 1, 0.0), [(False, False)])
def test_matrices(text: Text, present: list[tuple[bool, bool]]) -> None:
    got = hidden_attention.attention_matrices(*text.system, chosen(text, present))
    check_matrices(got, text, present)


@settings(deadline=None, max_examples=20)
@given(st.lists(texts, min_size=1, max_size=4), weightings)
@example([make(9, 3, 2), make(80, 3, 2), make(16, 3, 2, 30.0)], [(False, True), (True, False)])
def test_a_batch_of_ragged_texts(drawn: list[Text], present: list[tuple[bool, bool]]) -> None:
    # One layer's A, so all texts take the shape of the first one's.
    A = drawn[0].A
    same = [replace(make(len(text.delta), *A.shape, seed=i), A=A) for i, text in enumerate(drawn)]
    batch = [
        hidden_attention.Text(text.delta, text.B, text.C, chosen(text, present)) for text in same
    ]
    for text, matrices in zip(same, hidden_attention.batch_matrices(A, batch), strict=True):
        check_matrices(matrices, text, present)


def test_a_text_too_long_to_share_a_pass_between_weightings() -> None:
    text = make(200, 30, 5, 0.3)
    present = [(False, False), (True, True), (True, False)]
    got = hidden_attention.attention_matrices(*text.system, chosen(text, present))
    check_matrices(got, text, present)


def test_no_weightings_and_no_texts() -> None:
    text = make(5, 3, 2)
    assert hidden_attention.attention_matrices(*text.system, []) == []
    assert hidden_attention.batch_matrices(text.A, []) == []
    one, two = ([(None, None)] * count for count in (1, 2))
    texts = [hidden_attention.Text(text.delta, text.B, text.C, few) for few in (one, two)]
    with pytest.raises(ValueError, match="same number of weightings"):
        hidden_attention.batch_matrices(text.A, texts)


@settings(deadline=None, max_examples=20)
@given(texts, weightings)
def test_plain_torch_matrices(text: Text, present: list[tuple[bool, bool]]) -> None:
    check_matrices(_reads_torch.matrices(*text.system, chosen(text, present)), text, present)


@settings(deadline=None, max_examples=30)
@given(texts, st.data())
@example(make(17, 17, 17, 1e-4, 2947), None)
def test_row(text: Text, data: st.DataObject | None) -> None:
    query = data.draw(st.integers(0, len(text.delta) - 1)) if data else 0
    close(
        hidden_attention.attention_row(*text.system, query),
        reference.attention_row(*text.exact().system, query),
        magnitudes=reference.attention_row(*text.magnitudes().system, query),
    )


def pieces(length: int, borders: list[int]) -> list[slice]:
    """The text cut at the borders that lie in it."""
    cuts = sorted({0, length, *(border for border in borders if border < length)})
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]


cuts = st.lists(st.integers(1, 69), max_size=4)


@settings(deadline=None, max_examples=30)
@given(texts, cuts, st.booleans())
def test_weighted_rows(text: Text, borders: list[int], weighted: bool) -> None:
    exact, state = text.exact(), hidden_attention.carried_state(text.A, 2)
    r = torch.stack([text.r, torch.ones_like(text.r)])
    found = torch.empty_like(r)
    for at in reversed(pieces(len(text.delta), borders)):
        p, q = (text.p[at], text.q[at]) if weighted else (None, None)
        found[:, at] = hidden_attention.weighted_rows(*text.cut(at), r[:, at], p, q, state)
    p, q = (exact.p, exact.q) if weighted else (None, None)
    for row, weights in zip(found, r.double().numpy(), strict=True):
        close(
            row,
            reference.weighted_row(*exact.system, weights, p, q),
            magnitudes=np.abs(weights) @ np.abs(reference.attention_matrix(*exact.system, p, q)),
        )


@settings(deadline=None, max_examples=30)
@given(texts, cuts, st.data())
def test_a_row_goes_on_into_the_pieces_before(
    text: Text, borders: list[int], data: st.DataObject
) -> None:
    query = data.draw(st.integers(0, len(text.delta) - 1))
    gap = torch.zeros(text.delta.shape[1], dtype=torch.float64)
    found = torch.zeros_like(text.delta)
    for at in reversed(pieces(query + 1, borders)):
        delta, A, B, _ = text.cut(at)
        found[at] = hidden_attention.row_before(delta, A, B, text.C[query], gap)
    close(
        found,
        reference.attention_row(*text.exact().system, query),
        magnitudes=reference.attention_row(*text.magnitudes().system, query),
    )


@settings(deadline=None, max_examples=30)
@given(texts, cuts, st.booleans())
def test_moments(text: Text, borders: list[int], weighted: bool) -> None:
    exact, moments = text.exact(), hidden_attention.Moments.start(text.A)
    for at in pieces(len(text.delta), borders):
        moments.read(*text.cut(at), *((text.p[at], text.q[at]) if weighted else (None, None)))
    wanted = reference.attention_moments(
        *exact.system, *((exact.p, exact.q) if weighted else (None, None))
    )
    # The mean of a signed channel may nearly cancel, so both are measured on the root mean square.
    rms = np.sqrt(wanted[0] ** 2 + wanted[1] ** 2)
    length = len(text.delta)
    mean = moments.totals[0] / (length * (length + 1) / 2)
    for ours, theirs in zip((mean, moments.deviation(length)), wanted, strict=True):
        assert np.all(np.abs(ours.double().numpy() - theirs) <= TOLERANCE * rms + 1e-30)


@settings(deadline=None, max_examples=30)
@given(texts, cuts)
def test_apply(text: Text, borders: list[int]) -> None:
    exact, sizes = text.exact(), text.magnitudes()
    state = hidden_attention.carried_state(text.A, 2)
    out, sums = torch.empty_like(text.q), torch.empty_like(text.r)
    for at in pieces(len(text.delta), borders):
        out[at], sums[at] = hidden_attention.apply_attention(*text.cut(at), text.q[at], state)
    for got, wanted, magnitudes in (
        (out, exact.q, sizes.q),
        (sums[:, None], np.ones_like(exact.q), np.ones_like(exact.q)),
    ):
        applied = reference.apply_attention(*exact.system, wanted)
        scale = reference.apply_attention(*sizes.system, magnitudes)
        close(got, applied if got is out else applied.mean(1, keepdims=True), magnitudes=scale)


def test_identities_between_the_functions() -> None:
    text = make(203, 300, 16, 0.05)
    matrix = hidden_attention.attention_matrix(*text.system, text.p, text.q)
    rows = (text.p * hidden_attention.apply_attention(*text.system, text.q)[0]).mean(1)
    close(matrix.sum(1), rows.double())
    close(
        hidden_attention.weighted_rows(*text.system, text.r[None], text.p, text.q)[0],
        text.r.double() @ matrix.double(),
    )
    mean = hidden_attention.attention_matrix(*text.system)
    close(hidden_attention.attention_row(*text.system, 150).mean(1), mean[150].double())
    one_hot = torch.zeros(203)
    one_hot[150] = 1.0
    close(hidden_attention.weighted_rows(*text.system, one_hot[None])[0], mean[150].double())


def rows_of_long_text(text: Text, queries: list[int]) -> Any:
    """Rows of K in float64, one by one, without the matrix over channels."""
    exact = text.exact()
    rows = np.zeros((len(queries), len(exact.delta)))
    for row, t in zip(rows, queries, strict=True):
        since = np.cumsum(exact.delta[: t + 1][::-1], 0)[::-1] - exact.delta[: t + 1]
        decay = np.exp(since[:, :, None] * exact.A)
        read = np.einsum("sdn,sn->sd", decay, exact.B[: t + 1] * exact.C[t])
        row[: t + 1] = (exact.p[t] * exact.q[: t + 1] * exact.delta[: t + 1] * read).mean(1)
    return rows


# The first forgets nothing, the second within a few tokens; in the others pairs leave the product
# at different distances. 530 channels make two groups, the first sorted apart from the second.
@pytest.mark.parametrize(
    ("length", "d", "n", "scale"),
    [(1000, 9, 4, 1e-5), (1000, 9, 4, 30.0), (1023, 40, 16, 0.3), (700, 530, 3, 0.5)],
)
def test_long_text(length: int, d: int, n: int, scale: float) -> None:
    text = make(length, d, n, scale)
    queries = [0, 3, 64, 511, 512, length - 1]
    wanted = rows_of_long_text(text, queries)
    matrix = hidden_attention.attention_matrix(*text.system, text.p, text.q)
    close(matrix[queries], wanted)
    assert not matrix.triu(1).any()
    one_hot = torch.zeros(length)
    one_hot[511] = 1.0
    (row,) = hidden_attention.weighted_rows(*text.system, one_hot[None], text.p, text.q)
    close(row, wanted[3])
    key_weights = text.p[511] * text.q * hidden_attention.attention_row(*text.system, 511)
    close(key_weights.mean(1), wanted[3])


def test_constant_tiny_delta_does_not_drift() -> None:
    # exp(A delta) = 1 - 2.4e-8 rounds to 1 in float32: a recurrence would never decay.
    delta, A = torch.full((4096, 2), 2.4e-8), torch.full((2, 1), -1.0)
    B = C = torch.ones(4096, 1)
    wanted = 2.4e-8 * np.exp(-2.4e-8 * np.arange(4095, -1, -1.0))
    matrix = hidden_attention.attention_matrix(delta, A, B, C)
    close(matrix[-1], wanted, 1e-6)
    one_hot = torch.zeros(4096)
    one_hot[-1] = 1.0
    close(hidden_attention.weighted_rows(delta, A, B, C, one_hot[None])[0], wanted, 1e-6)
    close(
        hidden_attention.apply_attention(delta, A, B, C, torch.ones(4096, 2))[0][-1],
        [wanted.sum()] * 2,
        1e-6,
    )


def test_pairs_out_of_reach_are_not_computed() -> None:
    text = make(512, 16, 2, 1.0)
    A = torch.full_like(text.A, -50.0)
    matrix = hidden_attention.attention_matrix(text.delta, A, text.B, text.C)
    assert not matrix[256:, :128].any()
    assert matrix.diagonal().all()


def test_partial_sums_of_more_threads_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    text = make(70, 600, 3)
    wanted = hidden_attention.attention_matrix(*text.system)
    monkeypatch.setattr(_contraction, "PARTIAL_BYTES", 1)
    close(hidden_attention.attention_matrix(*text.system), wanted.double())


def test_zeros_stay_zero() -> None:
    text = make(20, 5, 4)
    zero = torch.zeros_like(text.delta)
    assert not hidden_attention.attention_matrix(zero, text.A, text.B, text.C).any()
    assert not hidden_attention.apply_attention(*text.system, zero)[0].any()
    assert not hidden_attention.weighted_rows(*text.system, torch.zeros(1, 20)).any()
    moments = hidden_attention.Moments.start(text.A)
    moments.read(*text.system, None, zero)
    assert not moments.deviation(20).any()


def test_half_precision_is_computed_in_float32() -> None:
    text = make(30, 6, 4)
    half = [v.bfloat16() for v in text.system]
    wanted = reference.attention_matrix(*(v.double().numpy() for v in half))
    close(hidden_attention.attention_matrix(*half), wanted)


def test_wrong_shapes_name_the_tensor() -> None:
    delta, A, B, C = make(6, 3, 2).system
    with pytest.raises(ValueError, match="A must be"):
        hidden_attention.attention_matrix(delta, A.T, B, C)
    with pytest.raises(ValueError, match="C must be"):
        hidden_attention.Moments.start(A).read(delta, A, B, C[:-1])
    with pytest.raises(ValueError, match="q must be"):
        hidden_attention.attention_matrix(delta, A, B, C, None, B)
    with pytest.raises(ValueError, match="r must be"):
        hidden_attention.weighted_rows(delta, A, B, C, torch.ones(1, 5))
    with pytest.raises(ValueError, match="delta must be"):
        hidden_attention.apply_attention(delta[:0], A, B[:0], C[:0], delta[:0])
    with pytest.raises(IndexError, match=r"0\.\.5"):
        hidden_attention.attention_row(delta, A, B, C, 6)


def test_query_may_count_from_the_end() -> None:
    text = make(9, 3, 2)
    last = hidden_attention.attention_row(*text.system, -1)
    assert torch.equal(last, hidden_attention.attention_row(*text.system, 8))
