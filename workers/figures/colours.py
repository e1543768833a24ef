"""Colour maps that are even to the eye and safe for colour-blind readers.

Both ramps run straight through OKLab (Ottosson 2020, "A perceptual color space for image
processing"), with lightness falling linearly, so equal steps in a number look equally large and
survive a greyscale print. The diverging ramp is blue against orange, which every common form of
colour blindness tells apart, and symmetric in lightness about its pale centre.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]
Lab = tuple[float, float, float]
Floats = npt.NDArray[np.floating[Any]]

STEPS = 256
_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def _srgb(lab: Floats) -> Rgb:
    """OKLab (n, 3) -> sRGB bytes (n, 3), clipped to what a screen can show."""
    linear = (lab @ _TO_LMS.T) ** 3 @ _TO_RGB.T
    linear = np.clip(linear, 0.0, 1.0)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: Rgb = np.round(curved * 255).astype(np.uint8)
    return colours


def _ramp(stops: list[Lab], steps: int) -> Rgb:
    """Evenly spaced OKLab stops, joined linearly, as `steps` sRGB colours."""
    at = np.linspace(0, len(stops) - 1, steps)
    lab = np.stack([np.interp(at, range(len(stops)), axis) for axis in zip(*stops, strict=True)], 1)
    return _srgb(lab)


_PALE: Lab = (0.975, 0.0, 0.002)
SEQUENTIAL: Rgb = _ramp(
    [
        _PALE,
        (0.80, -0.055, -0.035),
        (0.625, -0.055, -0.085),
        (0.45, -0.015, -0.12),
        (0.275, 0.02, -0.09),
    ],
    STEPS,
)
_BLUE: list[Lab] = [(0.35, -0.015, -0.125), (0.56, -0.04, -0.12), (0.77, -0.035, -0.07)]
_ORANGE: list[Lab] = [(0.77, 0.055, 0.085), (0.56, 0.085, 0.105), (0.35, 0.065, 0.07)]
DIVERGING: Rgb = _ramp([*_BLUE, _PALE, *_ORANGE], STEPS + 1)


# Kinds that are told apart by colour, of Okabe and Ito's palette ("Color Universal Design", 2008),
# without its yellow, which a white page swallows.
KINDS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")


def ink_on(fill: Rgb) -> str:
    """Black or white, whichever is easier to read on a colour (WCAG relative luminance)."""
    channel = fill.astype(np.float64) / 255
    linear = np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    # Both contrasts are equal at (1.05 x 0.05) ** 0.5 - 0.05, and never under 4.5 : 1.
    return "#ffffff" if luminance < 0.179 else "#000000"
