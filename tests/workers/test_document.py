"""The document's numbers: rounding, pooling, pairs, targets."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogue.tokeniser import Tokeniser
from schemas.artifact_names import Subject, figure_count
from schemas.catalogue import LayerDescription
from schemas.names import Method, Mixer
from schemas.result import TextResult, Token
from tests.tiny_models import VOCABULARY, word_tokenizer
from tests.workers.analyses.traces import planted
from workers.analyses.maps import ReadingPlan
from workers.analyses.methods import read_layers
from workers.document import (
    TextWriter,
    heatmap,
    method_attention,
    number,
    rounded,
    strongest_pairs,
    target_result,
)
from workers.findings import Findings
from workers.traces import TargetIds, TextTrace

LAYERS = [LayerDescription(layer=0, mixer=Mixer.S6, beside=Mixer.SOFTMAX, methods=list(Method))]
TOKENISER = Tokeniser(word_tokenizer(), unknown_id=0)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_seven_significant_digits(values: list[float]) -> None:
    found = rounded(np.array(values))
    # Half a unit of the seventh digit, and the odd tie that falls to the other side.
    np.testing.assert_allclose(found, values, rtol=5.0001e-7, atol=0)
    for value in found.tolist():
        digits = json.dumps(value).partition("e")[0].replace(".", "").replace("-", "").strip("0")
        # log10 may be off by one just at a power of ten.
        assert len(digits) <= 8, value


def test_zero_has_no_sign_and_no_exponent() -> None:
    assert json.dumps(rounded(np.array([0.0, -0.0])).tolist()) == "[0.0, 0.0]"


def test_numbers_as_written() -> None:
    values = [1 / 3, -2e-30 / 3, 123456789.0, 1e-7, 3.0]
    expected = [0.3333333, -6.666667e-31, 123456800.0, 1e-7, 3.0]
    assert rounded(np.array(values)).tolist() == expected
    assert [number(value) for value in values] == expected


def test_a_heatmap_up_to_128_tokens_is_exact_and_ragged() -> None:
    matrix = torch.arange(1.0, 128 * 128 + 1).view(128, 128).tril()
    found = heatmap(matrix, list(range(128)))
    assert (found.stride, found.queries) == (1, list(range(128)))
    assert [len(row) for row in found.rows] == list(range(1, 129))
    assert found.rows[127] == matrix[127].tolist()


@pytest.mark.parametrize("length", [129, 256, 300, 513])
def test_a_longer_heatmap_keeps_each_blocks_largest_with_its_sign(length: int) -> None:
    matrix = torch.randn(length, length, generator=torch.Generator().manual_seed(length)).tril()
    found = heatmap(matrix, list(range(length)))
    stride = found.stride
    assert len(found.rows) <= 128
    assert found.queries == list(range(0, length, stride))
    assert len(found.queries) == len(found.rows)
    for i, row in enumerate(found.rows):
        assert len(row) == i + 1
        for j, value in enumerate(row):
            block = matrix[i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
            assert abs(value) == pytest.approx(float(block.abs().max()), rel=1e-6)
            assert bool(torch.isclose(block, torch.tensor(value)).any())


def test_a_single_row_is_exact_at_any_length() -> None:
    row = torch.zeros(1, 400)
    row[0, :301] = torch.arange(301.0)
    found = heatmap(row, [300])
    assert (found.stride, found.queries) == (1, [300])
    assert found.rows == [torch.arange(301.0).tolist()]


def test_strongest_pairs_are_causal_and_signed() -> None:
    matrix = torch.tensor([[0.5, 0.0], [-2.0, 1.0]])
    pairs = [(p.query, p.key, p.weight) for p in strongest_pairs(matrix, [0, 1])]
    assert pairs == [(1, 0, -2.0), (1, 1, 1.0), (0, 0, 0.5)]


def test_strongest_pairs_of_one_row_name_its_query() -> None:
    row = torch.cat([torch.arange(1.0, 21.0), torch.zeros(5)])[None]
    pairs = strongest_pairs(row, [19])
    assert [(p.query, p.key) for p in pairs] == [(19, key) for key in range(19, 9, -1)]


def test_equal_pairs_come_in_reading_order() -> None:
    pairs = strongest_pairs(torch.ones(3, 3).tril(), [0, 1, 2])
    assert [(p.query, p.key) for p in pairs] == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]


def test_strongest_pairs_of_many_rows_are_those_of_the_whole_matrix() -> None:
    matrix = torch.randn(60, 60, generator=torch.Generator().manual_seed(3)).tril()
    best = matrix.abs().flatten().topk(10).indices.tolist()
    pairs = strongest_pairs(matrix, list(range(60)))
    assert [(p.query, p.key) for p in pairs] == [divmod(place, 60) for place in best]
    assert pairs[0].weight == pytest.approx(float(matrix[pairs[0].query, pairs[0].key]), rel=1e-6)


def _trace(target: TargetIds, logits: torch.Tensor, value: float) -> TextTrace:
    return TextTrace(ids=(1, 2), target=target, logits=logits, value=value, mixers={})


def test_the_target_with_probabilities_and_contrast() -> None:
    logits = torch.zeros(VOCABULARY)
    logits[3], logits[7] = math.log(61), math.log(2)
    target = target_result(_trace(TargetIds(1, 3, 7), logits, 3.4177), TOKENISER)
    assert target.token.token == "w2"
    assert target.token.probability == pytest.approx(61 / (61 + 2 + VOCABULARY - 2), rel=1e-6)
    assert target.contrast is not None
    assert target.contrast.token == "w6"
    assert target.position == 1
    assert target.value == 3.4177
    assert [candidate.id for candidate in target.top] == [3, 7, 0, 1, 2]


def figure_names(results: list[TextResult]) -> list[str]:
    findings = Findings("job")
    for text, result in enumerate(results):
        findings.add(0, text, result)
    return findings.figures


def test_a_layer_under_every_method() -> None:
    plan = ReadingPlan(frozenset({0}), list(Method), 2, 1e-4)
    (reading,) = read_layers({0: planted(torch.ones(4, 4) / 4)}, plan)
    words = [Token(id=i, text=f"w{i}", start=3 * i, end=3 * i + 2) for i in range(4)]
    subject = Subject("m", 1, several_texts=True)
    writer = TextWriter(subject, "w0 w1 w2 w3", words, LAYERS, 2, figures=True)
    part = writer.layer(reading)
    assert part.attention.mixer is Mixer.S6
    assert part.attention.beside is Mixer.SOFTMAX
    for method, found in part.attention.methods.items():
        assert found.artifacts == [f"text1--attention_neurons_{method}_layer0.png"]
        assert found.neurons.num_neurons == len(found.neurons.activation) == 3
        assert len(found.neurons.top_by_importance) == 2
        assert len(found.token_relevance) == 4
    assert part.attention.methods[Method.CONTRIBUTION].heatmap.queries == [2]
    assert part.attention.methods[Method.CONTRIBUTION].signed_relevance is not None
    assert part.attention.methods[Method.ROLLOUT].signed_relevance is None
    assert set(part.knowledge) == set(Method)
    # y' of token t is (1 + ... + t) / 4, so 0.25, 0.75, 1.5, 2.5.
    weighted = part.attention.methods[Method.ATTENTION_WEIGHTED]
    assert weighted.neurons.activation == [1.25, 1.25, 1.25]

    target = target_result(_trace(TargetIds(2, 3, None), torch.zeros(40), 0.0), TOKENISER)
    result = writer.result(target, [part], None)
    assert len(figure_names([result])) == len(set(figure_names([result]))) == 4 + 1 + 4
    assert figure_count(layers=1, methods=4) == 4 + 1 + 4
    silent = TextWriter(Subject("m", 0), "w0", words, LAYERS, 2, figures=False)
    assert figure_names([silent.result(target, [silent.layer(reading)], None)]) == []


def test_a_text_without_analysis_says_why() -> None:
    target = target_result(_trace(TargetIds(0, 3, None), torch.zeros(40), 0.0), TOKENISER)
    writer = TextWriter(Subject("m", 0), "w0", [], LAYERS, 2, figures=True)
    result = writer.result(target, [], "Because.")
    assert not result.has_attention_analysis
    assert result.attention_unavailable_reason == "Because."
    assert figure_names([result]) == []


def test_what_float32_holds_survives() -> None:
    maps_of = ReadingPlan(frozenset({0}), [Method.ATTENTION_WEIGHTED], 3, 1e-4)
    weights = torch.rand(4, 4, generator=torch.Generator().manual_seed(0)).tril()
    (reading,) = read_layers({0: planted(weights)}, maps_of)
    found = method_attention(reading.maps[Method.ATTENTION_WEIGHTED], 1, [])
    np.testing.assert_allclose(found.token_relevance, weights[3], rtol=5e-7)
    np.testing.assert_allclose(found.heatmap.rows[3], weights[3], rtol=5e-7)
