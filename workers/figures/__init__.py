"""Figures of a stored result document as PNG: no model, no tensor, no GPU.

`draw` gives all of them; `sheet`, `token_strip` and `overview` make one page each.
"""

from workers.figures.drawing import Drawing, draw
from workers.figures.overview import overview
from workers.figures.sheet import sheet
from workers.figures.strip import token_strip

__all__ = ["Drawing", "draw", "overview", "sheet", "token_strip"]
