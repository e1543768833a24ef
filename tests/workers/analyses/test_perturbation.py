"""Matched random sets and effects, from numbers given by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.names import Block
from workers.analyses.perturbation import (
    Changes,
    Said,
    effect,
    matched_sets,
    more_extreme,
    random_effect,
)
from workers.mixers.sites import Place

SIZES: dict[Place, int] = {(0, Block.MIXER): 7, (0, Block.MLP): 4, (3, Block.MIXER): 11}


@st.composite
def chosen_sets(draw: st.DrawFn) -> dict[Place, np.ndarray]:
    places = draw(st.sets(st.sampled_from(sorted(SIZES)), min_size=1))
    return {
        place: np.array(sorted(draw(st.sets(st.integers(0, SIZES[place] - 1), min_size=1))))
        for place in sorted(places)
    }


def alike(one: dict[Place, np.ndarray], other: dict[Place, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[p], other[p]) for p in one)


@given(chosen=chosen_sets(), seed=st.integers(0, 2**32 - 1))
def test_random_sets_match_the_set_block_by_block_and_are_another(
    chosen: dict[Place, np.ndarray], seed: int
) -> None:
    found = matched_sets(chosen, SIZES, 5, np.random.default_rng(seed))
    if all(len(neurons) == SIZES[place] for place, neurons in chosen.items()):
        assert found == []
        return
    assert len(found) == 5
    for drawn in found:
        assert {place: len(neurons) for place, neurons in drawn.items()} == {
            place: len(neurons) for place, neurons in chosen.items()
        }
        for place, neurons in drawn.items():
            assert len(set(neurons.tolist())) == len(neurons)
            assert set(neurons.tolist()) <= set(range(SIZES[place]))
        assert not alike(drawn, chosen)  # type: ignore[arg-type]
    again = matched_sets(chosen, SIZES, 5, np.random.default_rng(seed))
    assert all(alike(one, other) for one, other in zip(found, again, strict=True))  # type: ignore[arg-type]


def test_every_other_set_is_drawn_equally_often() -> None:
    chosen = {(0, Block.MLP): np.array([1, 2])}
    found = matched_sets(chosen, {(0, Block.MLP): 4}, 6000, np.random.default_rng(0))
    pairs = [tuple(drawn[0, Block.MLP].tolist()) for drawn in found]
    counts = {pair: pairs.count(pair) for pair in set(pairs)}
    assert counts.keys() == {(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)}
    # 1200 each; five standard deviations are 155.
    assert all(abs(count - 1200) < 155 for count in counts.values())


def said(probability: list[list[float]], loss: list[list[float]]) -> Said:
    shape = np.array(probability, np.float64)
    return Said(np.log(shape), shape, shape / 10, np.array(loss, np.float64))


def test_effects_are_means_over_texts_and_perplexity_is_the_losss() -> None:
    before = said([[0.5, 0.25]], [[1.0, 2.0]])
    changes = Changes.between(before, said([[0.25, 0.25], [0.5, 0.5]], [[2.0, 2.0], [1.0, 2.0]]))
    first, second = effect(changes.of([0])), effect(changes.of([1]))
    assert first.logit == pytest.approx(math.log(0.5) / 2, rel=1e-6)
    assert first.probability == -0.125
    assert first.divergence == pytest.approx(0.025)
    assert (first.loss, first.perplexity) == (0.5, pytest.approx(math.exp(0.5), rel=1e-6))
    assert (second.probability, second.loss, second.perplexity) == (0.125, 0.0, 1.0)


def test_texts_of_a_single_token_are_left_out_of_the_loss_alone() -> None:
    before = said([[0.5, 0.5]], [[math.nan, 2.0]])
    found = effect(Changes.between(before, said([[0.1, 0.5]], [[math.nan, 3.0]])))
    assert (found.probability, found.loss) == (-0.2, 1.0)
    assert before.mean_loss() == 2.0
    none = said([[0.5]], [[math.nan]])
    found = effect(Changes.between(none, none))
    assert (found.loss, found.perplexity, none.mean_loss()) == (None, None, None)
    randoms = random_effect(Changes.between(none, said([[0.1], [0.3]], [[math.nan]] * 2)))
    assert (randoms.loss, randoms.perplexity) == (None, None)
    assert randoms.probability.mean == pytest.approx(-0.3)


def test_the_perplexity_of_random_sets_is_above_0_and_null_beyond_a_float() -> None:
    before = said([[0.5]], [[1.0]])
    found = random_effect(Changes.between(before, said([[0.5]] * 2, [[1.0], [4.0]])))
    assert found.loss is not None
    assert found.perplexity is not None
    assert found.perplexity.low == pytest.approx(math.exp(found.loss.low), rel=1e-6)
    assert found.perplexity.mean == pytest.approx(math.exp(1.5), rel=1e-6)
    beyond = Changes.between(before, said([[0.5]] * 2, [[900.0], [901.0]]))
    assert effect(beyond.of([0])).perplexity is None
    assert random_effect(beyond).perplexity is None
    assert random_effect(beyond).loss is not None


def test_more_extreme_counts_the_sets_that_lower_the_probability_at_least_as_much() -> None:
    before = said([[0.5]], [[1.0]])
    own = Changes.between(before, said([[0.3]], [[1.0]]))
    randoms = Changes.between(before, said([[0.2], [0.3], [0.4], [0.9]], [[1.0]] * 4))
    assert more_extreme(own, randoms) == 0.5
