"""Streaming statistics against float64 over everything at once, however the texts come."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.reference.neuron_statistics import Everything
from workers.kernels.activation_moments import ActivationMoments, Positions, StepMoments
from workers.kernels.steps import Step

ABOVE = 0.3
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def draw_texts(
    lengths: list[int], d: int, seed: int, offset: float = 0.0
) -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-3, 3, d)
    texts = [
        (rng.standard_normal((length, d)) + offset) * scale * (rng.random((length, d)) < 0.8)
        for length in lengths
    ]
    # As the kernel gets them.
    return [text.astype(np.float32).astype(np.float64) for text in texts]


def stream(
    texts: list[NDArray[np.float64]], batch: int, piece: int, top: int = 3, bins: int = 4
) -> ActivationMoments:
    """Read the texts in padded batches, each in pieces; padding is not a number."""
    lengths = [len(text) for text in texts]
    d = texts[0].shape[1]
    moments = ActivationMoments(d, Positions.of(lengths, bins), ABOVE, top)
    for first in range(0, len(texts), batch):
        which = list(range(first, min(first + batch, len(texts))))
        longest = max(lengths[i] for i in which)
        # A row of another job stands before each of these.
        padded = torch.full((2 * len(which), longest, d), float("nan"))
        for row, i in enumerate(which):
            padded[2 * row + 1, : lengths[i]] = torch.from_numpy(texts[i]).float()
        rows = [2 * row + 1 for row in range(len(which))]
        for start in range(0, longest, piece):
            part = padded[:, start : start + piece]
            moments.read(part, rows, which, [lengths[i] for i in which], start)
    return moments


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.sampled_from([1, 2, 3, 7, 127, 128, 129, 300]), min_size=1, max_size=5),
    d=st.sampled_from([1, 2, 63, 64, 65, 130]),
    batch=st.integers(1, 3),
    piece=st.sampled_from([1, 5, 128, 1000]),
    seed=st.integers(0, 10_000),
)
def test_the_stream_equals_everything_at_once(
    lengths: list[int], d: int, batch: int, piece: int, seed: int
) -> None:
    # Pieces of single tokens, of short texts only: each is a call.
    lengths = [min(length, 30) for length in lengths] if piece == 1 else lengths
    texts = draw_texts(lengths, d, seed)
    found, twin = stream(texts, batch, piece), Everything(texts)
    everything = twin.tokens
    assert (found.tokens, found.texts) == (len(everything), len(texts))
    size = np.abs(everything).max(0)
    np.testing.assert_allclose(
        found.mean / np.maximum(size, 1e-30), everything.mean(0) / np.maximum(size, 1e-30), **CLOSE
    )
    np.testing.assert_allclose(found.variance, twin.moment(2), **CLOSE)
    np.testing.assert_allclose(found.skewness, twin.standardised(3), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.kurtosis, twin.standardised(4) - 3, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(found.minimum, everything.min(0))
    np.testing.assert_array_equal(found.maximum, everything.max(0))
    np.testing.assert_allclose(found.mean_magnitude, np.abs(everything).mean(0), rtol=1e-6)
    above = np.abs(everything.astype(np.float32)) > np.float32(ABOVE)
    np.testing.assert_allclose(found.fraction_active, above.mean(0), **CLOSE)
    np.testing.assert_allclose(found.fraction_positive, (everything > 0).mean(0), **CLOSE)
    np.testing.assert_allclose(found.text_variance, twin.text_variance(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.hoyer_per_token, twin.hoyer(), rtol=1e-5, atol=1e-6)
    borders = found.positions.borders.tolist()
    np.testing.assert_allclose(found.position_information, twin.information(borders), atol=1e-10)
    if len(set(twin.positions)) > 1:
        expected = twin.correlation()
        np.testing.assert_allclose(found.position_correlation, expected, rtol=1e-6, atol=1e-8)
    else:
        assert np.isnan(found.position_correlation).all()


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    top=st.integers(1, 8),
    piece=st.sampled_from([3, 64]),
    seed=st.integers(0, 10_000),
)
def test_the_strongest_tokens_are_kept_with_their_places(
    lengths: list[int], top: int, piece: int, seed: int
) -> None:
    texts = draw_texts(lengths, 5, seed)
    found, twin = stream(texts, 2, piece, top), Everything(texts)
    for neuron in range(5):
        kept = found.strongest(neuron)
        assert [abs(value) for value, _, _ in kept] == twin.strongest(neuron, top)
        assert len({place for _, *place in map(tuple, kept) for place in [tuple(place)]}) == len(
            kept
        )
        for value, text, position in kept:
            assert texts[text][position, neuron] == value


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    texts = draw_texts([500, 400], 3, 0)
    texts = [(text * 1e-3 + 1e4).astype(np.float32).astype(np.float64) for text in texts]
    found, twin = stream(texts, 2, 64), Everything(texts)
    np.testing.assert_allclose(found.variance, twin.moment(2), rtol=1e-7)
    np.testing.assert_allclose(found.kurtosis, twin.standardised(4) - 3, rtol=1e-5)


def test_a_neuron_that_never_varies_has_no_shape() -> None:
    constant = np.full((9, 2), [0.0, 7.5])
    found = stream([constant, constant], 2, 4)
    assert found.variance.tolist() == [0.0, 0.0]
    assert np.isnan(found.skewness).all()
    assert np.isnan(found.kurtosis).all()
    assert np.isnan(found.position_correlation).all()
    assert found.position_information.tolist() == [0.0, 0.0]
    # What is 0 is nobody's strongest token; of equals the first is kept.
    assert found.strongest(0) == []
    assert found.strongest(1) == [(7.5, 0, 0), (7.5, 0, 1), (7.5, 0, 2)]


def test_numbers_that_are_none_do_not_hide() -> None:
    broken = np.ones((3, 2))
    broken[1, 0] = np.nan
    found = stream([broken], 1, 10)
    assert np.isnan(found.mean[0])
    assert found.mean[1] == 1.0


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=20), bins=st.integers(1, 40))
def test_bins_of_positions_share_out_the_tokens(lengths: list[int], bins: int) -> None:
    found = Positions.of(lengths, bins)
    positions = np.concatenate([np.arange(length) for length in lengths])
    assert found.borders[0] == 0
    assert (np.diff(found.borders) > 0).all()
    assert len(found.borders) <= bins
    counts = np.bincount(np.searchsorted(found.borders, positions, side="right") - 1)
    assert counts.tolist() == found.tokens.tolist()
    assert found.middle == pytest.approx(positions.mean())
    assert found.variance == pytest.approx(positions.var(), abs=1e-9)
    # No bin is larger than its share by more than the texts that have one position.
    assert counts.max() <= len(positions) / bins + len(lengths) + 1


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(any),
    layout=st.sampled_from(["tokens", "channels"]),
    softplus=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_steps_equal_those_of_everything_at_once(
    lengths: list[int], layout: str, softplus: bool, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    heads = 2
    x = torch.randn(heads, len(lengths), 7, 40, generator=draw) * 3 - 1
    bias = torch.randn(heads, 7, generator=draw)
    found = StepMoments(14)
    expected = []
    for head in range(heads):
        before = x[head]
        if layout == "channels":
            before = before.transpose(1, 2).contiguous().transpose(1, 2)
        step = Step(before, bias[head] if softplus else None, softplus)
        # In two batches.
        for rows in ([0], list(range(1, len(lengths)))):
            found.read(step, 7 * head, rows, [lengths[row] for row in rows])
        kept = torch.cat([x[head, row, :, :n] for row, n in enumerate(lengths)], dim=1).double()
        if softplus:
            kept = torch.nn.functional.softplus(kept + bias[head].double()[:, None])
        expected.append(kept)
    delta = torch.cat(expected).numpy()
    np.testing.assert_allclose(found.mean, delta.mean(1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.variance, delta.var(1), rtol=1e-5, atol=1e-6)


def test_half_precision_is_read_as_it_is() -> None:
    x = torch.tensor([[[1.0, -2.0], [0.5, 3.0]]], dtype=torch.bfloat16)
    moments = ActivationMoments(2, Positions.of([2], 4))
    moments.read(x, [0], [0], [2])
    assert moments.mean.tolist() == [0.75, 0.5]
