"""`attention_knowledge_extraction` by hand and against its row-by-row twin."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import methods as twin
from workers.analyses.knowledge_extraction import extract

# Middles of tokens of uneven widths.
PLACES = [float(3 * index + index % 2) for index in range(300)]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    length=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    holes=st.floats(0, 1),
    one=st.booleans(),
)
def test_against_the_twin(length: int, seed: int, holes: float, one: bool) -> None:
    source = np.random.default_rng(seed)
    matrix = np.tril(source.standard_normal((length, length)))
    matrix[source.random((length, length)) < holes] = 0
    queries = list(range(length))
    if one:
        queries = [int(source.integers(length))]
        matrix = matrix[queries]
    ours = asdict(extract(torch.tensor(matrix), queries, PLACES[: matrix.shape[1]]))
    assert ours == pytest.approx(twin.knowledge(matrix, queries, PLACES), rel=1e-12, abs=1e-12)


def test_more_rows_than_one_block() -> None:
    matrix = np.tril(np.random.default_rng(1).standard_normal((300, 300)))
    ours = asdict(extract(torch.tensor(matrix), list(range(300)), PLACES[:300]))
    assert ours == pytest.approx(twin.knowledge(matrix, list(range(300)), PLACES), rel=1e-10)


def test_a_uniform_layer() -> None:
    matrix = torch.ones(3, 3).tril() / torch.tensor([[1.0], [2.0], [3.0]])
    found = extract(matrix, [0, 1, 2], [0, 1, 2])
    assert found.attention_entropy == pytest.approx((math.log(2) + math.log(3)) / 3)
    assert found.attention_entropy_normalised == pytest.approx(2 / 3)
    assert found.effective_keys == pytest.approx(2)
    assert found.attention_diversity == pytest.approx(0, abs=1e-7)
    assert found.mean_distance == pytest.approx((0 + 0.5 + 1) / 3)
    assert found.first_token_mass == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_signs_count_in_the_raw_measures_only() -> None:
    found = extract(torch.tensor([[-1.0, 0.0], [3.0, -1.0]]), [0, 1], [0, 1])
    assert (found.min_attention, found.max_attention) == (-1, 3)
    assert found.mean_attention == pytest.approx(1 / 3)
    assert found.first_token_mass == pytest.approx((1 + 0.75) / 2)


def test_a_matrix_of_zeros_has_no_weights_to_measure() -> None:
    assert set(asdict(extract(torch.zeros(3, 3), [0, 1, 2], [0, 1, 2])).values()) == {0.0}


def test_rows_that_the_matrix_would_not_miss_do_not_count() -> None:
    rows = [[1.0, 0.0, 0.0], [3.0, -1.0, 0.0]]
    faint = extract(torch.tensor([*rows, [3e-7, 0.0, 0.0]]), [0, 1, 2], [0, 1, 2])
    assert faint.first_token_mass == pytest.approx((1 + 0.75) / 2)
    faint_but_there = extract(torch.tensor([*rows, [4e-7, 0.0, 0.0]]), [0, 1, 2], [0, 1, 2])
    assert faint_but_there.first_token_mass == pytest.approx((1 + 0.75 + 1) / 3)


def test_rows_of_denormals_keep_their_proportions() -> None:
    tiny = torch.tensor([[3e-320, 1e-320]], dtype=torch.float64)
    assert extract(tiny, [1], [0, 1]).first_token_mass == pytest.approx(0.75, rel=1e-3)
