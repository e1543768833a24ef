"""Sizes, inks and the typeface of every figure: lengths in inches, type in points.

Nothing here touches matplotlib's global settings; every mark has what it needs.
"""

from pathlib import Path

import matplotlib

DPI = 200
WIDTH = 8.5
MARGIN = 0.3

POINTS_PER_INCH = 72
# Inches in a point.
POINT = 1 / POINTS_PER_INCH
# Above the baseline, as shares of the type size: capitals and digits, and the tallest letters.
CAPITALS, ASCENT = 0.73, 0.76

TITLE, SUBTITLE, HEADING, BODY, SMALL, FOOTER = 13.0, 9.0, 9.5, 8.0, 7.5, 7.0

INK = "#1f2328"
SOFT_INK = "#5d656e"
RULE = "#c9ced4"
GRID = "#e8ebee"
POSITIVE = "#c25b0c"
NEGATIVE = "#2166ac"
PLAIN = "#55626f"

# The typeface matplotlib ships, by file: what a figure looks like does not depend on the fonts of
# the machine, and the characters it can draw are known beforehand.
_TTF = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
REGULAR_FILE = str(_TTF / "DejaVuSans.ttf")
BOLD_FILE = str(_TTF / "DejaVuSans-Bold.ttf")
