# ruff: noqa: RUF001 (true multiplication and minus signs are typeset on purpose)

import pytest

from tests.workers.figures.looking import HOSTILE
from workers.figures import lettering, style, words

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("token", "drawn"),
    [
        ("river", "river"),
        (" river", "river"),
        ("  river ", "␣river␣"),
        ("a b", "a b"),
        (" ", "␣"),
        ("   ", "␣␣␣"),
        ("", "∅"),
        ("\n", "\\n"),
        ("\r\t", "\\r\\t"),
        ("\x07", "\\x07"),
        ("\u202e", "\\u202e"),
        ("中", "\\u4e2d"),
        ("\xa0", "\\xa0"),
        ("\ud800", "\\ud800"),
        ("\u0301", "◌\u0301"),
        ("é", "é"),
        ("$x$", "$x$"),
        ("שלום", "שלום"),
    ],
)
def test_tokens_become_visible(token: str, drawn: str) -> None:
    assert words.readable(token) == drawn


@pytest.mark.parametrize("token", [*HOSTILE, "W" * 10_000, "中" * 500])
@pytest.mark.parametrize("inches", [0.2, 0.7, 2.0])
def test_tokens_fit_their_room(token: str, inches: float) -> None:
    drawn = words.readable(token, inches, 8.0)
    assert words.width(drawn, 8.0) <= inches


@pytest.mark.parametrize("text", [*HOSTILE, "W" * 10_000, "中" * 500])
@pytest.mark.parametrize("inches", [0.2, 0.7, 2.0])
def test_ends_of_texts_fit_their_room(text: str, inches: float) -> None:
    assert words.width(words.readable_end(text, inches, 8.0), 8.0) <= inches


def test_of_a_long_text_the_end_is_kept() -> None:
    text = "The committee had been meeting"
    assert words.readable_end(text, 9.0, 8.0) == text
    shown = words.readable_end(text, 1.0, 8.0)
    assert shown.startswith("…")
    assert 3 < len(shown) < len(text)
    assert text.endswith(shown.removeprefix("…"))
    for hundredths in range(10, 200):
        shown = words.readable_end("中国人", hundredths / 100, 8.0).removeprefix("…")
        assert len(shown) % len("\\u4e2d") == 0


def test_an_escape_is_never_cut_in_two() -> None:
    for hundredths in range(10, 200):
        drawn = words.readable("中国人", hundredths / 100, 8.0).removesuffix("…")
        assert len(drawn) % len("\\u4e2d") == 0


@pytest.mark.parametrize(
    "text", ["committee", "511 although", "WWW", "iiiii", "−0.0854", "\\u4e2d"]
)
@pytest.mark.parametrize("bold", [False, True])
def test_widths_are_those_of_what_is_drawn(text: str, bold: bool) -> None:
    drawn = lettering.stamp(text, 8.0, bold).width
    # Hinting moves each glyph by at most half a pixel.
    pixels = 0.5 * len(text) + 2
    assert words.width(text, 8.0, bold) == pytest.approx(drawn, abs=pixels / style.DPI)


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0.0, "0"),
        (5.9, "5.90"),
        (3.0, "3"),
        (-0.01234, "−0.0123"),
        (123.4, "123"),
        (2.34e-7, "2.34×10⁻⁷"),
        (-1e5, "−1.00×10⁵"),
    ],
)
def test_numbers(value: float, printed: str) -> None:
    assert words.number(value) == printed


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (1.0, "= 1.00"),
        (0.99999, "> 0.9999"),
        (0.9973, "= 0.9973"),
        (0.99, "= 0.99"),
        (0.0, "= 0.00"),
        (0.00012, "= 1.20×10⁻⁴"),
    ],
)
def test_probabilities_are_never_rounded_to_certainty(value: float, printed: str) -> None:
    assert words.probability(value) == printed
