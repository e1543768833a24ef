"""Neurons ranked in a table: the value, the token that each is strongest at, in context, a trigger.

The tokens stand below each other, their contexts on either side, as in a concordance.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.neurons import NeuronProfile, RankedValue, TopToken, Trigger
from workers.figures import panels, style, words
from workers.figures.marks import Box, rounded
from workers.figures.page import Page
from workers.figures.scale import Scale

# Lengths in inches.
ROW, BOX_HEIGHT = 0.205, 0.175
# Columns, from the page's left edge: where the neuron's number ends, its bar, its value and its
# strongest activation end, its token starts, what follows that ends, and its trigger starts.
NUMBER, BAR, VALUE, PEAK, TOKEN, AFTER, TRIGGER = 0.72, (0.8, 1.42), 2.1, 2.78, 4.1, 6.4, 6.55
LONGEST_TOKEN, PADDING, CORNER = 1.3, 0.04, 0.025
# From the middle of a row to the baseline of its texts.
DROP = 0.037
GROUND = "#fde6d2"
# A trigger is shown in its longest form that at least this share of the top tokens ends.
USUAL = 0.5


def concordance(
    page: Page,
    top: float,
    value: str,
    ranked: Sequence[RankedValue],
    profiles: Mapping[int, NeuronProfile],
) -> None:
    """A row for each neuron; the titles of the columns stand on the line at `top`."""
    for x, title in ((NUMBER, "neuron"), (VALUE, value), (PEAK, "peak")):
        page.aside(x, top, title)
    page.text(TOKEN, top, "strongest at", style.SMALL, style.SOFT_INK)
    page.text(TRIGGER, top, "trigger", style.SMALL, style.SOFT_INK)
    page.aside(page.width - style.MARGIN, top, "share")
    values = np.array([neuron.value for neuron in ranked], dtype=np.float64)
    scale = Scale.of(values, may_bend=False)
    box = Box(BAR[0], top + 0.06, BAR[1] - BAR[0], ROW * len(ranked))
    panels.row_bars(page, box, scale, values)
    for index, neuron in enumerate(ranked):
        base = box.top + (index + 0.5) * ROW + DROP
        page.text(NUMBER, base, str(neuron.neuron), style.SMALL, align="right")
        page.text(VALUE, base, words.number(neuron.value), style.SMALL, align="right")
        profile = profiles.get(neuron.neuron)
        if profile is not None and profile.top_tokens:
            _in_context(page, base, profile.top_tokens[0])
        if profile is not None:
            _trigger(page, base, profile.triggers)


def _in_context(page: Page, base: float, top: TopToken) -> None:
    """The token on its ground, before and after it its context, and its activation."""
    peak = words.number(top.activation)
    page.text(PEAK, base, peak, style.SMALL, style.SOFT_INK, align="right")
    token = words.readable(top.token, LONGEST_TOKEN, style.SMALL)
    width = words.width(token, style.SMALL) + 2 * PADDING
    place = Box(TOKEN - PADDING, base - DROP - BOX_HEIGHT / 2, width, BOX_HEIGHT)
    page.add(rounded(place, CORNER, GROUND, style.POSITIVE, 0.5))
    page.text(TOKEN, base, token, style.SMALL)
    before, after = top.before.removesuffix(" "), top.after
    left, right = place.left - PADDING, place.right + PADDING
    if before:
        shown = words.readable_end(before, left - PEAK - 0.15, style.SMALL)
        page.text(left, base, shown, style.SMALL, style.SOFT_INK, align="right")
    if after:
        shown = words.readable(after, AFTER - right, style.SMALL)
        page.text(right, base, shown, style.SMALL, style.SOFT_INK)


def _trigger(page: Page, base: float, triggers: Sequence[Trigger]) -> None:
    """The longest trigger that is usual, else the one of the largest share; a dash for none."""
    if not triggers:
        page.text(TRIGGER, base, words.NO_NUMBER, style.SMALL, style.SOFT_INK)
        return
    usual = [trigger for trigger in triggers if trigger.share >= USUAL]
    chosen = max(usual, key=lambda t: t.n) if usual else max(triggers, key=lambda t: t.share)
    share = f"{100 * chosen.share:.0f}%"
    right = page.width - style.MARGIN
    page.text(right, base, share, style.SMALL, align="right")
    room = right - words.width(share, style.SMALL) - 0.1 - TRIGGER
    each = (words.readable(token) for token in chosen.tokens)
    shown = words.readable_end("·".join(each), room, style.SMALL)
    page.text(TRIGGER, base, shown, style.SMALL, style.SOFT_INK)
