"""Places that models share: where each of them has read up to the same character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogue.locate import locate
from catalogue.tokeniser import Tokeniser
from schemas.result import Token
from schemas.settings import Settings
from workers.analyses.alignment import shared_tokens


def tokens(*spans: tuple[int, int]) -> list[Token]:
    return [Token(id=0, text="x", start=start, end=end) for start, end in spans]


@st.composite
def cuts(draw: st.DrawFn, length: int) -> list[Token]:
    """A text cut into tokens, with gaps, empty tokens and several tokens of one character."""
    spans, reached = [], 0
    while reached < length:
        start = draw(st.integers(reached, length - 1))
        end = draw(st.integers(start + 1, length))
        spans += [(start, end)] * draw(st.integers(1, 3))
        spans += [(end, end)] * draw(st.integers(0, 1))
        reached = end
    return tokens(*spans)


@st.composite
def jobs(draw: st.DrawFn) -> list[list[list[Token]]]:
    """Of some models the tokens of the same texts."""
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    models = draw(st.integers(1, 3))
    return [[draw(cuts(length)) for length in lengths] for _ in range(models)]


ANY = 10**9


@given(jobs())
def test_positions_correspond_to_equal_ends_and_none_is_left_out(
    job: list[list[list[Token]]],
) -> None:
    found = shared_tokens(job, ANY)
    for text in range(len(job[0])):
        ends = [
            [job[model][text][position].end for position in found[model][text]]
            for model in range(len(job))
        ]
        assert all(of_model == ends[0] for of_model in ends)
        assert ends[0] == sorted(set(ends[0]))
        covering = [{t.end for t in model[text] if t.end > t.start} for model in job]
        assert set(ends[0]) == set.intersection(*covering)
        for model, positions in zip(job, found, strict=True):
            assert positions[text] == sorted(positions[text])
            for position in positions[text]:
                token = model[text][position]
                assert token.end > token.start
                later = model[text][position + 1 :]
                assert not any(t.end == token.end and t.end > t.start for t in later)


@given(jobs(), st.integers(1, 20))
def test_no_more_than_asked_for_from_among_all(job: list[list[list[Token]]], most: int) -> None:
    everything, some = shared_tokens(job, ANY), shared_tokens(job, most)
    for of_all, of_some in zip(everything, some, strict=True):
        assert sum(map(len, of_some)) == min(most, sum(map(len, of_all)))
        for positions, kept in zip(of_all, of_some, strict=True):
            assert set(kept) <= set(positions)
            assert kept == sorted(set(kept))


@given(st.lists(st.integers(0, 12), min_size=1).flatmap(lambda n: st.tuples(*map(cuts, n))))
def test_the_same_tokenizer_aligns_every_token_that_covers_something(
    texts: tuple[list[Token], ...],
) -> None:
    alone, *both = shared_tokens([texts], ANY) + shared_tokens([texts, texts], ANY)
    assert both == [alone, alone]
    for of_text, positions in zip(texts, alone, strict=True):
        assert {of_text[p].end for p in positions} == {t.end for t in of_text if t.end > t.start}


def test_by_hand() -> None:
    words = tokens((0, 0), (0, 5), (5, 7), (7, 13))
    # The word in two pieces, then a character in three bytes, of which the last completes it.
    pieces = tokens((0, 3), (3, 5), (6, 7), (6, 7), (6, 7), (7, 10), (10, 13), (13, 13))
    assert shared_tokens([[words], [pieces]], ANY) == [[[1, 2, 3]], [[1, 4, 6]]]
    assert shared_tokens([[words], [tokens((0, 4), (4, 6))]], ANY) == [[[]], [[]]]
    assert shared_tokens([[words, pieces], [pieces, tokens((0, 13))]], ANY) == [
        [[1, 2, 3], [6]],
        [[1, 4, 6], [0]],
    ]


def test_a_third_model_must_share_the_place_too() -> None:
    letters = tokens(*((i, i + 1) for i in range(6)))
    even, threes = tokens((0, 2), (2, 4), (4, 6)), tokens((0, 3), (3, 6))
    assert shared_tokens([[letters], [even]], ANY) == [[[1, 3, 5]], [[0, 1, 2]]]
    assert shared_tokens([[letters], [even], [threes]], ANY) == [[[5]], [[2]], [[1]]]


@pytest.mark.parametrize("most", [1, 7, 100, 999])
def test_what_is_kept_is_spread_evenly(most: int) -> None:
    """No stretch of the texts has more than its share, to one token."""
    long, short = (tokens(*((i, i + 1) for i in range(n))) for n in (900, 100))
    [[first, second]] = shared_tokens([[long, short]], most)
    kept = first + [900 + position for position in second]
    assert len(kept) == most
    for start in range(0, 1000, 50):
        inside = sum(start <= place < start + 50 for place in kept)
        assert abs(inside - most * 50 / 1000) <= 1


def test_models_with_different_texts_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        shared_tokens([[tokens((0, 1))], []], ANY)


def test_real_tokenizers_share_the_ends_of_words() -> None:
    """A word tokenizer and one of pieces, on a text with a character of several bytes."""
    text = "apple 3 river 7 — stone 1 river"
    found = []
    for name in ("pocket/recall-mamba", "pocket/english-mamba"):
        path = locate(name, Settings()).tokeniser_path
        assert path is not None
        found.append(Tokeniser.load(path).encode(text))
    [[words], [pieces]] = shared_tokens([[found[0]], [found[1]]], ANY)
    ends = [found[0][position].end for position in words]
    assert ends == [found[1][position].end for position in pieces]
    assert set(ends) >= {5, 13, 23, 31}
    assert len(ends) < len(found[1])
