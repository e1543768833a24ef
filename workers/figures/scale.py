"""From numbers to places on an axis and to colours, and the ticks that say so."""

# ruff: noqa: RUF001 (true multiplication and minus signs are typeset on purpose)

import math
from dataclasses import dataclass

import numpy as np

from workers.figures.colours import DIVERGING, SEQUENTIAL, STEPS, Floats, Rgb
from workers.figures.words import power, signed_number

# Below this share of the largest magnitude a logarithmic scale turns linear: three decades show.
BEND = 1e-3
# A scale turns logarithmic when more than this share of the values sits in its lowest part.
CROWDED_SHARE = 0.9
CROWDED_AT = 0.05
# Magnitudes below it count as 0: not far below, powers of ten lose their digits and become 0.
TINIEST = 1e-300
# About a pixel of a frame each: more would only be drawn over one another.
MOST_COLUMNS = 640
NICE_STEPS = [step * 10**k for k in range(7) for step in (1, 2, 5)]


@dataclass(frozen=True)
class Ticks:
    """Places in the scale's own unit (limit = 1), their labels, and a factor for all labels."""

    places: list[float]
    labels: list[str]
    factor: str = ""

    def within(self, low: float, high: float) -> "Ticks":
        """Those whose places lie in [low, high]."""
        kept = [i for i, place in enumerate(self.places) if low <= place <= high]
        return Ticks([self.places[i] for i in kept], [self.labels[i] for i in kept], self.factor)

    @property
    def complete(self) -> list[str]:
        """The labels with the factor, for an axis that has no place for it."""
        return [label if label == "0" else label + self.factor for label in self.labels]


@dataclass(frozen=True)
class Scale:
    """Maps numbers to [0, 1], or to [-1, 1] about a centre that is exactly 0 when `signed`.

    Linear: v / limit. Logarithmic: asinh(v / (BEND limit)) / asinh(1 / BEND), which is linear
    about 0 and a logarithm above BEND limit, for either sign.
    """

    limit: float
    signed: bool
    logarithmic: bool = False

    @classmethod
    def of(cls, values: Floats, signed: bool | None = None, may_bend: bool = True) -> "Scale":
        """The scale of some finite numbers; `signed` None means: if any is negative."""
        magnitudes = np.abs(values[np.isfinite(values)])
        limit = float(magnitudes.max(initial=0.0))
        if signed is None:
            signed = bool(np.nanmin(values, initial=0.0) < 0)
        if limit < TINIEST:
            return cls(0.0, signed)
        low = magnitudes / limit < CROWDED_AT
        crowded = magnitudes.size >= 16 and float(low.mean()) > CROWDED_SHARE
        return cls(limit, signed, may_bend and crowded)

    @property
    def lowest(self) -> float:
        """The place at the lower end: -1 when signed, else 0."""
        return -1.0 if self.signed else 0.0

    def ramp(self) -> Rgb:
        """(STEPS, 3) sRGB bytes: the colours of even places, from the lower end to 1."""
        return Scale(1.0, self.signed).colours(np.linspace(self.lowest, 1.0, STEPS))

    def place(self, values: Floats) -> Floats:
        """Places of numbers: 1 is the limit."""
        if self.limit == 0.0:
            return np.zeros_like(values)
        share = values / self.limit
        return np.arcsinh(share / BEND) / math.asinh(1 / BEND) if self.logarithmic else share

    def colours(self, values: Floats) -> Rgb:
        """sRGB bytes of numbers, shape (*values.shape, 3). NaN counts as 0."""
        share = np.nan_to_num(self.place(values))
        if self.signed:
            return DIVERGING[np.round((share + 1) / 2 * (len(DIVERGING) - 1)).astype(np.intp)]
        return SEQUENTIAL[np.round(share * (len(SEQUENTIAL) - 1)).astype(np.intp)]

    def ticks(self, per_side: int = 3) -> Ticks:
        """About `per_side` ticks on either side of 0."""
        if self.limit == 0.0:
            return Ticks([0.0], ["0"])
        return self._decades() if self.logarithmic else self._even(per_side)

    def _even(self, per_side: int) -> Ticks:
        exponent = math.floor(math.log10(self.limit))
        plain = -2 <= exponent <= 3
        unit = 1.0 if plain else 10.0**exponent
        largest = self.limit / unit
        decade = 10.0 ** math.floor(math.log10(largest))
        if per_side == 1:
            step = math.floor(largest / decade) * decade
        else:
            steps = [factor * decade for factor in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)]
            step = next(s for s in steps if largest / s < per_side + 1)
        count = int(largest / step * (1 + 1e-9))
        numbers = [i * step for i in range(-count if self.signed else 0, count + 1)]
        digits = max(0, -math.floor(math.log10(step)))
        return Ticks(
            [number / largest for number in numbers],
            [signed_number(f"{number:.{digits}f}") if number else "0" for number in numbers],
            "" if plain else f"×{power(exponent)}",
        )

    def _decades(self) -> Ticks:
        top = math.floor(math.log10(self.limit) + 1e-9)
        decades = [(10.0**k, power(k)) for k in range(top - 2, top + 1)]
        if decades[-1][0] < self.limit * 0.5:
            decades = decades[1:]
        ticks = [(0.0, "0"), *decades]
        if self.signed:
            ticks = [(-value, f"−{label}") for value, label in reversed(decades)] + ticks
        places = self.place(np.array([value for value, _ in ticks]))
        return Ticks([float(place) for place in places], [label for _, label in ticks])


def thin(values: Floats, most: int = MOST_COLUMNS) -> tuple[Floats, int]:
    """(..., l) -> (..., at most `most`) and the stride: of each block the largest in magnitude."""
    length = values.shape[-1]
    stride = -(-length // most)
    if stride == 1:
        return values, 1
    blocks = -(-length // stride)
    padded = np.zeros((*values.shape[:-1], blocks * stride))
    padded[..., :length] = values
    padded = padded.reshape(*values.shape[:-1], blocks, stride)
    largest = np.abs(padded).argmax(-1)[..., None]
    return np.take_along_axis(padded, largest, -1)[..., 0], stride
