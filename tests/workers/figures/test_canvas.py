"""Marks as pixels: where they are, how large, and in which colours."""

import numpy as np
import pytest

from tests.workers.figures.looking import measured
from workers.figures import style
from workers.figures.canvas import Canvas
from workers.figures.marks import Box, Mark, Picture, Words, dot, lines, rectangles, rounded

DPI = style.DPI
RED, BLUE = (255, 0, 0), (0, 0, 255)


def drawn(*marks: Mark) -> np.ndarray:
    """(200, 400, 3) of a page two inches wide and one high."""
    canvas = Canvas(2.0, 1.0)
    for mark in marks:
        canvas.draw(mark)
    return canvas.pixels[..., :3].copy()


def inked(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is not white."""
    rows, columns = np.nonzero((pixels != 255).any(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_a_page_is_white() -> None:
    assert drawn().shape == (DPI, 2 * DPI, 3)
    assert (drawn() == 255).all()


def test_a_pictures_cells_fill_its_box_from_the_top() -> None:
    cells = np.array([[RED, BLUE], [BLUE, BLUE]], np.uint8)
    pixels = drawn(Picture(Box(0.5, 0.2, 1.0, 0.5), cells))
    assert inked(pixels) == (100, 40, 300, 140)
    assert (pixels[40:90, 100:200] == RED).all()
    assert (pixels[40:90, 200:300] == BLUE).all()
    assert (pixels[90:140, 100:300] == BLUE).all()


def test_cells_without_alpha_show_what_is_below() -> None:
    below = Picture(Box(0, 0, 2, 1), np.array([[BLUE]], np.uint8))
    above = Picture(Box(0, 0, 2, 1), np.array([[(*RED, 255), (*RED, 0)]], np.uint8))
    pixels = drawn(below, above)
    assert (pixels[:, :200] == RED).all()
    assert (pixels[:, 200:] == BLUE).all()


def test_more_cells_than_pixels_are_drawn_in_order() -> None:
    shades = np.arange(2000) * 250 // 2000
    pixels = drawn(
        Picture(Box(0, 0, 1, 1), np.repeat(shades[None, :, None], 3, 2).astype(np.uint8))
    )
    assert (np.diff(pixels[0, :200, 0].astype(int)) >= 0).all()
    assert inked(pixels) == (0, 0, 200, 200)


def test_lines_go_where_they_are_told_as_thick_as_they_are_told() -> None:
    across = lines(np.array([[0.25, 0.5]]), np.array([[1.75, 0.5]]), "#ff0000", 72 * 4 / DPI)
    left, top, right, bottom = inked(drawn(across))
    assert (left, right) == (50, 350)
    assert bottom - top == 4
    assert abs((top + bottom) / 2 - 100) <= 1
    assert (drawn(across)[99, 60] == RED).all()


def test_no_line_is_no_error() -> None:
    nothing = np.zeros((0, 2))
    assert (drawn(lines(nothing, nothing, "#000000", 1.0)) == 255).all()


def test_rectangles_are_filled() -> None:
    pixels = drawn(rectangles(np.array([[0.1, 0.1, 0.3, 0.4], [1.0, 0.5, 1.5, 0.6]]), "#0000ff"))
    assert (pixels[21:79, 21:59] == BLUE).all()
    assert (pixels[101:119, 201:299] == BLUE).all()
    assert (pixels[30, 100] == 255).all()


def test_a_rounded_box_lacks_its_corners_only() -> None:
    pixels = drawn(rounded(Box(0.5, 0.2, 1.0, 0.5), 0.1, "#0000ff", "#ff0000", 72 * 2 / DPI))
    assert inked(pixels) == pytest.approx((100, 40, 300, 140), abs=2)
    assert (pixels[65:115, 105:295] == BLUE).all()
    assert (pixels[45:135, 125:275] == BLUE).all()
    assert (pixels[90, 100] == RED).all()
    for row, column in ((41, 101), (41, 298), (138, 101), (138, 298)):
        assert (pixels[row, column] == 255).all()


def test_a_dot_is_round_and_a_ring_is_hollow() -> None:
    filled = drawn(dot(1.0, 0.5, 36.0, "#ff0000"))
    left, top, right, bottom = inked(filled)
    assert abs(right - left - 100) <= 2
    assert abs(bottom - top - 100) <= 2
    share = (filled[..., 1] < 128).sum() / 100**2
    assert share == pytest.approx(np.pi / 4, rel=0.02)
    below = rectangles(np.array([[0.0, 0.0, 2.0, 1.0]]), "#0000ff")
    ringed = drawn(below, dot(1.0, 0.5, 36.0, None, ring=3.6))
    assert (ringed[100, 200] == BLUE).all()
    assert (ringed[100, 250] > 240).all()


@pytest.mark.parametrize("align", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize(("text", "bold"), [("Happy 7", False), ("WWW", True), ("1×10⁻³", False)])  # noqa: RUF001
def test_words_lie_about_their_place(text: str, bold: bool, align: float, upright: bool) -> None:
    pixels = drawn(Words(1.0, 0.5, text, 8.0, "#000000", bold, align, upright))
    left, top, right, bottom = inked(pixels)
    width, above, descent = (DPI * inches for inches in measured(text, 8.0, bold))
    x, y, before = DPI * 1.0, DPI * 0.5, align * width
    box = (x - before, y - above, x - before + width, y + descent)
    if upright:
        box = (x - above, y + before - width, x + descent, y + before)
    # The width holds the side bearings, a pixel or two.
    assert (left, top, right, bottom) == pytest.approx(box, abs=3)
