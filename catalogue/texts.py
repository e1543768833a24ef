"""Whether a request's texts and target fit a model, by its own tokens."""

from collections.abc import Iterator

from catalogue.case import Case
from catalogue.tokeniser import Tokeniser
from schemas.names import Method
from schemas.problem import FieldError


def length_errors(case: Case) -> Iterator[FieldError]:
    """What is too long, or has no token."""
    settings, lengths = case.settings, case.lengths
    limit, hint = _longest(case)
    for index, length in enumerate(lengths):
        yield from length_error(case, f"/texts/{index}", length, limit, hint)
    total = sum(lengths)
    if total > settings.max_total_tokens:
        detail = (
            f"The texts have {total} tokens together in {case.whom}; a job takes at most "
            f"{settings.max_total_tokens}: send several jobs."
        )
        yield FieldError(pointer="/texts", detail=detail)
    attention = case.request.attention
    wants_all_rows = (
        attention is not None
        and Method.CONTRIBUTION in attention.methods
        and attention.rows_of(Method.CONTRIBUTION) == "all"
    )
    longest = max(lengths)
    if wants_all_rows and longest > settings.max_contribution_tokens:
        detail = (
            f"Text {lengths.index(longest)} has {longest} tokens in {case.whom}; `all` takes at "
            f"most {settings.max_contribution_tokens} a text: use `target` or a shorter text."
        )
        yield FieldError(pointer="/attention/rows", detail=detail)


def length_error(
    case: Case, pointer: str, length: int, limit: int, hint: str = ""
) -> Iterator[FieldError]:
    """What is wrong with one text's number of tokens; `hint` says what would allow more."""
    if length == 0:
        detail = f"The text has no token in {case.whom}: give at least one word."
        yield FieldError(pointer=pointer, detail=detail)
    elif length > limit:
        detail = (
            f"The text has {length} tokens in {case.whom}, which takes at most {limit}"
            f"{hint}: shorten it or split it. Texts are never cut."
        )
        yield FieldError(pointer=pointer, detail=detail)


def _longest(case: Case) -> tuple[int, str]:
    """Tokens that a text may have as it is to be read, and what would allow more."""
    described, attention = case.described, case.request.attention
    if described is None:
        return case.settings.max_tokens, ""
    reads_rows = attention is None or all(
        attention.rows_of(method) == "target" for method in attention.methods
    )
    if reads_rows:
        return described.max_row_tokens, ""
    if described.max_row_tokens == described.max_tokens:
        return described.max_tokens, ""
    hint = f" (up to {described.max_row_tokens} with `attention.rows` set to `target`)"
    return described.max_tokens, hint


def target_errors(case: Case, lengths: list[int], tokens: Tokeniser) -> Iterator[FieldError]:
    """What a model finds wrong with the target."""
    target = case.request.target
    for index, length in enumerate(lengths):
        if length and not -length <= target.position < length:
            detail = (
                f"Text {index} has no position {target.position}: it has {length} tokens in "
                f"{case.whom}, name one of {-length} to {length - 1}."
            )
            yield FieldError(pointer="/target/position", detail=detail)
    named = set()
    for field, string in (("token", target.token), ("contrast", target.contrast)):
        if string is None:
            continue
        try:
            token = tokens.single_token(string)
        except ValueError as error:
            detail = f"Name exactly one token of {case.whom}: {error}."
            yield FieldError(pointer=f"/target/{field}", detail=detail)
            continue
        if token in named:
            detail = (
                f"This is the token itself to {case.whom}, and the difference of a logit from "
                "itself is always 0: name another token."
            )
            yield FieldError(pointer=f"/target/{field}", detail=detail)
        named.add(token)
