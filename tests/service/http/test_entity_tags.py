import pytest
from fastapi import Request

from service.http.entity_tags import is_named, is_named_exactly


def asking(*lines: str) -> Request:
    headers = [(b"if-match", line.encode()) for line in lines]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("lines", "tag", "weakly", "exactly"),
    [
        (['"a"'], '"a"', True, True),
        (['"a"'], '"b"', False, False),
        (['"b", "a"'], '"a"', True, True),
        (['"b"', '"a"'], '"a"', True, True),
        (['W/"a"'], '"a"', True, False),
        (['"a"'], 'W/"a"', True, False),
        (['W/"a"'], 'W/"a"', True, False),
        (["*"], 'W/"a"', True, True),
        ([], '"a"', False, False),
        ([""], '"a"', False, False),
    ],
)
def test_who_names_what(lines: list[str], tag: str, weakly: bool, exactly: bool) -> None:
    assert is_named(asking(*lines), "if-match", tag) is weakly
    assert is_named_exactly(asking(*lines), "if-match", tag) is exactly
