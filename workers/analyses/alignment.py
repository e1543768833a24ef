"""Which tokens of several models are compared: those that end at the same character of a text."""

from collections.abc import Sequence

from schemas.result import Token


def shared_tokens(
    tokens_by_model: Sequence[Sequence[Sequence[Token]]], most: int
) -> list[list[list[int]]]:
    """Of each model and text the positions to compare, as many for every model.

    tokens_by_model: of each model, of each text, its tokens. The i-th position of a text means the
    same place for all models: there, every model has read the text up to the same character. A
    token that covers no character has no such place, and of several tokens that end at the same
    character the last one does, since by then that character is whole. Of more than `most` shared
    places so many are kept, evenly spread over all texts. There may be none at all.

    Raises ValueError: the models have different numbers of texts.
    """
    ends = [
        [_last_positions(tokens) for tokens in text] for text in zip(*tokens_by_model, strict=True)
    ]
    shared = [
        (text, end)
        for text, of_models in enumerate(ends)
        for end in sorted(set(of_models[0]).intersection(*of_models[1:]))
    ]
    found: list[list[list[int]]] = [[[] for _ in ends] for _ in tokens_by_model]
    for text, end in _evenly_spread(shared, most):
        for model, position_at in enumerate(ends[text]):
            found[model][text].append(position_at[end])
    return found


def _evenly_spread(items: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """All items, or `most` of them, each from the middle of an equal share of the sequence."""
    if len(items) <= most:
        return list(items)
    return [items[(2 * index + 1) * len(items) // (2 * most)] for index in range(most)]


def _last_positions(tokens: Sequence[Token]) -> dict[int, int]:
    """Where a text has come to, in characters, and the position of the last token up to there."""
    return {token.end: position for position, token in enumerate(tokens) if token.end > token.start}
