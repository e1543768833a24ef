"""Models side by side: on numbers that can be worked out by hand, and by other libraries' words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.names import Method
from schemas.result import TextResult, Token
from tests.workers.figures.documents import Shape, document, recall_words
from workers.analyses.comparison import compare, hoyer, overlap, per_character, shares, spearman


def token(start: int, end: int) -> Token:
    return Token(id=0, text="x", start=start, end=end)


def test_relevance_is_spread_over_the_characters_of_a_token() -> None:
    tokens = [token(0, 0), token(0, 2), token(3, 4), token(3, 4)]
    found = per_character([9.0, 1.0, 2.0, 4.0], tokens, 5)
    np.testing.assert_array_equal(found, [0.5, 0.5, np.nan, 6.0, np.nan])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_how_a_word_is_cut_does_not_matter(widths: list[int], data: st.DataObject) -> None:
    """A token of even relevance, cut anywhere, leaves every character what it had."""
    ends = np.cumsum(widths).tolist()
    tokens = [token(end - width, end) for end, width in zip(ends, widths, strict=True)]
    relevance = [data.draw(st.floats(0, 10)) for _ in tokens]
    whole = per_character(relevance, tokens, ends[-1])
    letters = [token(i, i + 1) for i in range(ends[-1])]
    np.testing.assert_allclose(per_character(whole.tolist(), letters, ends[-1]), whole)
    assert whole.sum() == pytest.approx(sum(relevance))


def test_rank_correlation_by_hand() -> None:
    rising = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(rising, rising**3) == pytest.approx(1.0)
    assert spearman(rising, -rising) == pytest.approx(-1.0)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 1 - 6 * 0.5 / 60, corrected for the tie.
    tied = spearman(rising, np.array([1.0, 2.0, 2.0, 9.0]))
    assert tied == pytest.approx(4.5 / np.sqrt(5.0 * 4.5))
    assert spearman(rising, np.ones(4)) is None
    assert spearman(rising[:1], rising[:1]) is None


def test_overlap_by_hand() -> None:
    assert overlap(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == pytest.approx(0.75)
    assert overlap(np.array([0.0, 5.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)
    assert overlap(np.array([0.0, 5.0]), np.array([1.0, 0.0])) == 0.0
    assert overlap(np.zeros(2), np.ones(2)) is None
    assert overlap(np.zeros(0), np.zeros(0)) is None


def test_sparsity_by_hand() -> None:
    assert hoyer([0.0, -3.0, 0.0, 0.0]) == pytest.approx(1.0)
    assert hoyer([2.0, -2.0, 2.0, 2.0]) == pytest.approx(0.0)
    assert hoyer([0.0, 0.0]) == hoyer([1.0]) == 0.0
    assert hoyer([1e-200, 0.0, 0.0]) == pytest.approx(1.0)


def _results(models: int, texts: int) -> list[TextResult]:
    shape = Shape(
        [recall_words(9 + 2 * text) for text in range(texts)],
        models=[f"m{model}" for model in range(models)],
        layers=(0, 2),
        neurons=16,
    )
    return document(shape).results


def test_every_model_method_pair_and_text_is_there_once() -> None:
    results = _results(models=3, texts=2)
    found = compare(results, {"m0": 3, "m1": 5, "m2": 9})
    assert found.models == ["m0", "m1", "m2"]
    assert {(p.model, p.method) for p in found.profiles} == {
        (model, method) for model in found.models for method in Method
    }
    assert len(found.agreements) == 2 * len(Method) * 3
    of_m1 = next(p for p in found.profiles if p.model == "m1")
    assert (of_m1.layers, of_m1.relative_depth) == ([0, 2], [0.0, 0.5])


def test_a_profile_is_the_mean_over_texts() -> None:
    results = _results(models=1, texts=2)
    [profile] = compare(results[:2], {"m0": 3}).profiles[:1]
    knowledge = [r.attention_knowledge_extraction[2][profile.method] for r in results]
    fields = ("attention_entropy_normalised", "mean_distance_characters", "first_token_mass")
    for field in fields:
        one, two = (getattr(found, field) for found in knowledge)
        assert getattr(profile, field)[1] == pytest.approx((one + two) / 2)
    active = [r.attention_analysis[2].methods[profile.method].neurons.activation for r in results]
    sparsity = (hoyer(active[0]) + hoyer(active[1])) / 2
    assert profile.neuron_sparsity[1] == pytest.approx(sparsity)


def test_shares_of_a_text_add_up_to_one() -> None:
    [result] = _results(models=1, texts=1)
    for method in Method:
        assert sum(shares(result, method)) == pytest.approx(1.0)


def test_a_model_agrees_with_itself() -> None:
    [one] = _results(models=1, texts=1)
    other = one.model_copy(update={"model": "again"})
    found = compare([one, other], {"m0": 3, "again": 3})
    assert all(a.spearman == pytest.approx(1.0) for a in found.agreements)
    assert all(a.overlap == pytest.approx(1.0) for a in found.agreements)
    assert all(a.targets == ("7", "7") for a in found.agreements)


def test_models_without_attention_have_no_profile() -> None:
    [one] = _results(models=1, texts=1)
    silent = one.model_copy(
        update={"model": "silent", "attention_analysis": {}, "attention_knowledge_extraction": {}}
    )
    found = compare([one, silent], {"m0": 3, "silent": 2})
    assert found.models == ["m0", "silent"]
    assert {p.model for p in found.profiles} == {"m0"}
    assert found.agreements == []
