"""The integral's rule, the rules that name neurons, and overlaps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workers.analyses.integrated_gradients import (
    SURVEY,
    agreed,
    completeness_gap,
    named,
    overlaps,
    quadrature,
)

PROBABILITIES = arrays(np.float64, len(SURVEY), elements=st.floats(0, 1))
ATTRIBUTIONS = arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(0, 8)), elements=st.floats(-1, 1)
)


@given(probabilities=PROBABILITIES, steps=st.integers(1, 500))
def test_nodes_lie_in_order_within_the_path_and_weigh_one_together(
    probabilities: np.ndarray, steps: int
) -> None:
    nodes, weights = quadrature(probabilities, steps)
    assert nodes.shape == weights.shape == (steps,)
    assert (np.diff(nodes) > 0).all()
    assert nodes[0] > 0
    assert nodes[-1] < 1
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1)


@given(
    probabilities=PROBABILITIES,
    steps=st.integers(3, 60).filter(lambda steps: steps % 3 == 0),
    polynomial=arrays(np.float64, 6, elements=st.floats(-1, 1)),
)
def test_polynomials_of_degree_five_are_integrated_exactly(
    probabilities: np.ndarray, steps: int, polynomial: np.ndarray
) -> None:
    nodes, weights = quadrature(probabilities, steps)
    integral = np.polynomial.Polynomial(polynomial).integ()
    found = weights @ np.polynomial.Polynomial(polynomial)(nodes)
    assert found == pytest.approx(integral(1) - integral(0), abs=1e-12)


@pytest.mark.parametrize("middle", [0.003, 0.02, 0.1, 0.5, 0.95])
def test_a_rise_within_a_small_part_of_the_path_is_not_missed(middle: float) -> None:
    def rise(at: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(at - middle) / (0.2 * middle * (1.2 - middle))))

    nodes, weights = quadrature(rise(SURVEY), 20)
    slope = rise(nodes) * (1 - rise(nodes)) / (0.2 * middle * (1.2 - middle))
    whole = rise(np.array([0.0, 1.0]))
    assert weights @ slope == pytest.approx(whole[1] - whole[0], rel=0.02)


def test_the_gap_is_relative_to_the_larger_probability() -> None:
    gaps = completeness_gap(
        np.array([0.5, -0.1, 0.0, 0.3]), np.array([0.8, 0.2, 0.0, 0.6]), np.array([0.2, 0.4, 0, 0])
    )
    assert gaps == pytest.approx([0.1 / 0.8, 0.1 / 0.4, 0.0, 0.3 / 0.6])


@given(attributions=ATTRIBUTIONS, threshold=st.floats(0.01, 1))
def test_a_prompt_names_what_reaches_the_share_of_its_largest(
    attributions: np.ndarray, threshold: float
) -> None:
    names = named(attributions, threshold)
    assert names.shape == attributions.shape
    for prompt, row in enumerate(attributions):
        for neuron, value in enumerate(row):
            assert names[prompt, neuron] == (value > 0 and value >= threshold * max(row))
        assert names[prompt].any() == any(value > 0 for value in row)


@given(attributions=ATTRIBUTIONS, low=st.floats(0.01, 1), high=st.floats(0.01, 1))
def test_a_higher_threshold_names_fewer(attributions: np.ndarray, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert not (named(attributions, high) & ~named(attributions, low)).any()


@given(
    names=arrays(np.bool_, st.tuples(st.integers(1, 33), st.integers(0, 6))),
    percent=st.integers(1, 100),
)
def test_a_share_of_the_prompts_must_agree(names: np.ndarray, percent: int) -> None:
    found = agreed(names, percent / 100)
    # In whole numbers, where nothing is rounded.
    counts = names.sum(0)
    wanted = (counts > 0) & (100 * counts >= percent * len(names))
    assert found.tolist() == wanted.tolist()


@given(names=arrays(np.bool_, st.tuples(st.integers(0, 5), st.integers(0, 7))))
def test_overlaps_of_every_pair(names: np.ndarray) -> None:
    sets = [set(np.flatnonzero(row).tolist()) for row in names]
    found = {(i, j): (shared, jaccard) for i, j, shared, jaccard in overlaps(names)}
    assert set(found) == {(i, j) for j in range(len(sets)) for i in range(j)}
    for (i, j), (shared, jaccard) in found.items():
        assert shared == sum(each in sets[j] for each in sets[i])
        if not sets[i] and not sets[j]:
            assert jaccard is None
        else:
            assert jaccard == shared / (len(sets[i]) + len(sets[j]) - shared)
            assert (jaccard == 1) == (sets[i] == sets[j])
