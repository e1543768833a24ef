"""Tokens named along an axis: as many as fit without touching."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.result import Token
from workers.figures import style, words
from workers.figures.frame import Frame
from workers.figures.scale import NICE_STEPS

# A line of type needs a fifth more than its size to stand clear of the next.
CLEARANCE = 1.2
# Inches that a token's label may take before it is elided.
LABEL_ROOM = {"x": 0.82, "y": 0.68}


@dataclass(frozen=True)
class TokenAxis:
    """Which tokens are named along an axis, and how."""

    which: Literal["x", "y"]
    places: list[float]
    labels: list[str]
    strong: int | None
    upright: bool

    @classmethod
    def of(
        cls,
        which: Literal["x", "y"],
        inches: float,
        tokens: Sequence[Token],
        positions: Sequence[int],
        stride: int = 1,
        target: int | None = None,
    ) -> "TokenAxis":
        """Names for an axis `inches` long whose place i is `stride` tokens from positions[i] on.

        Every k-th for a round k, with their positions when some are left out. The token at
        `target`, if there is one, is always among them and stands out.
        """
        pitch = inches * style.POINTS_PER_INCH / len(positions)
        gap = style.SMALL * CLEARANCE / pitch
        step = next(s for s in NICE_STEPS if s >= gap)
        strong = None
        if target is not None:
            strong = next((i for i, p in enumerate(positions) if 0 <= target - p < stride), None)
        chosen = [
            i for i in range(0, len(positions), step) if strong is None or abs(i - strong) >= gap
        ]
        if strong is not None:
            chosen = sorted([*chosen, strong])
        numbered = step > 1 or len(positions) != len(tokens)
        labels = []
        for i in chosen:
            position = positions[i] if target is None or i != strong else target
            prefix = f"{position}: " if numbered else ""
            room = LABEL_ROOM[which] - words.width(prefix, style.SMALL, bold=True)
            labels.append(prefix + words.readable(tokens[position].text, room, style.SMALL, True))
        widest = max(words.width(label, style.SMALL, bold=True) for label in labels)
        return cls(
            which=which,
            places=[float(i) for i in chosen],
            labels=labels,
            strong=None if strong is None else chosen.index(strong),
            upright=which == "x"
            and (step > 1 or widest * style.POINTS_PER_INCH + style.SMALL > pitch),
        )

    @property
    def depth(self) -> float:
        """Inches that the labels take away from the axis."""
        if self.which == "x" and not self.upright:
            return style.SMALL / style.POINTS_PER_INCH
        return max(words.width(label, style.SMALL, bold=True) for label in self.labels)

    def draw(self, frame: Frame) -> None:
        """Put the labels along the frame's left or lower edge."""
        side: Literal["bottom", "left"] = "bottom" if self.which == "x" else "left"
        frame.ticks(side, self.places, self.labels, self.strong, self.upright)
