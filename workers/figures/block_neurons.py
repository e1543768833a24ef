"""The neurons of one block of one layer, over all texts."""

# ruff: noqa: RUF001 (true multiplication signs and Greek letters are typeset on purpose)

import numpy as np

from schemas.names import Mixer, Ranking
from workers.figures import blocks, captions, histogram, legends, panels, style, words
from workers.figures.captions import Caption
from workers.figures.concordance import ROW, concordance
from workers.figures.legends import Entry
from workers.figures.marks import Box
from workers.figures.page import FOOTER_HEIGHT, HEADER_HEIGHT, Page
from workers.figures.parts import BlockPart
from workers.figures.scale import NICE_STEPS, Scale, thin

# Lengths in inches.
LEFT, RIGHT = 0.75, 4.95
PANEL_WIDTH, PANEL_HEIGHT, PANEL_TOP = 3.2, 1.3, 0.7
UPPER = PANEL_TOP + PANEL_HEIGHT + 0.45
TABLE_HEAD, TABLE_GAP = 0.62, 0.16
SMALL_HEAD, SMALL_HEIGHT, SMALL_WIDTH, SMALL_PITCH, SMALL_FOOT = 0.62, 1.5, 1.4, 2.0, 0.5
HAIRLINE = 0.012
# Grounds of the neurons that are seldom or never active.
RARE, DEAD = "#f9d9a0", "#c9c3d6"

TABLES = (
    (
        Ranking.VARIANCE,
        "High-variance neurons",
        "variance of the activation over all tokens",
        "variance",
    ),
    (
        Ranking.ATTRIBUTION,
        "Attribution",
        "gradient × activation, summed over tokens, mean over texts: above 0 it is for the target",
        "attribution",
    ),
)
SMALL = (
    (Ranking.POSITION_CORRELATION, "Position correlation", "with the token's position"),
    (Ranking.POSITION_INFORMATION, "Position information", "nats"),
    (Ranking.TEXT_VARIANCE, "Variance by text", "of the texts' means"),
    (Ranking.DELTA_VARIANCE, "Variance of Δ", "over tokens"),
)


def block_neurons(part: BlockPart) -> Page:
    """How much and how often the neurons are active; those that vary, act and tell positions."""
    tables = [table for table in TABLES if part.rankings.get(table[0])]
    small = [shown for shown in SMALL if part.rankings.get(shown[0])]
    heights = [TABLE_HEAD + ROW * len(part.rankings[name]) + TABLE_GAP for name, *_ in tables]
    lowest = HEADER_HEIGHT + UPPER + sum(heights)
    below = SMALL_HEAD + SMALL_HEIGHT + SMALL_FOOT if small else 0.0
    page = Page(_caption(part), height=lowest + below + FOOTER_HEIGHT)
    letters = iter("abcdefgh")
    _spread(page, part, next(letters))
    _activity(page, part, next(letters))
    profiles = {profile.neuron: profile for profile in part.profiles}
    top = HEADER_HEIGHT + UPPER
    for (ranking, title, note, value), height in zip(tables, heights, strict=True):
        page.heading(style.MARGIN, top + 0.2, next(letters), title, note)
        concordance(page, top + TABLE_HEAD - 0.06, value, part.rankings[ranking], profiles)
        top += height
    for index, (ranking, title, note) in enumerate(small):
        box = Box(LEFT + index * SMALL_PITCH, top + SMALL_HEAD, SMALL_WIDTH, SMALL_HEIGHT)
        page.heading(
            box.left - 0.45, box.top - 0.33, next(letters), title, _note(part, ranking, note)
        )
        _ranking(page, box, part, ranking)
    return page


def _caption(part: BlockPart) -> Caption:
    kind = "" if part.mixer is None else f" ({part.mixer})"
    found = part.sparsity
    tokens, texts = words.several(part.tokens, "token"), words.several(part.texts, "text")
    explains = (
        f"{words.several(part.num_neurons, 'neuron')} over {tokens} of {texts} · "
        f"Gini {found.gini:.2f} · Hoyer {found.hoyer:.2f}, per token {found.hoyer_per_token:.2f} · "
        f"entropy {found.entropy_normalised:.2f} of the largest"
    )
    return Caption(
        title=f"Neurons · layer {part.layer}, {blocks.NAMES[part.block]}{kind}",
        model=part.model,
        explains=explains,
        facts="  ·  ".join(_facts(part)),
        choices="trigger: the longest n-gram that at least half of a neuron's strongest tokens "
        "end, else the most frequent; share: of its strongest tokens",
        job=captions.of_job(part.job_id),
    )


def _facts(part: BlockPart) -> list[str]:
    section = part.section
    facts = [
        f"active: magnitude > {section.active_above:g}",
        f"rare: at < {100 * section.rare_below:g}% of tokens",
    ]
    if part.delta is not None:
        mean = np.array(part.delta.mean)
        span = " to ".join(words.number(float(end)) for end in (mean.min(), mean.max()))
        median = words.number(float(np.median(mean)))
        facts.append(f"mean Δ: {span}, median {median}")
    return facts


def _channel(part: BlockPart) -> str:
    """What has a step of its own."""
    return "head" if part.mixer is Mixer.SSD else "channel"


def _note(part: BlockPart, ranking: Ranking, note: str) -> str:
    if ranking is Ranking.POSITION_INFORMATION:
        return f"{note}; line: chance, {words.number(part.chance_information)}"
    return f"{note}, by {_channel(part)}" if ranking is Ranking.DELTA_VARIANCE else note


def _spread(page: Page, part: BlockPart, letter: str) -> None:
    """How much each neuron varies."""
    std = np.array(part.std, dtype=np.float64)
    box = Box(LEFT, HEADER_HEIGHT + PANEL_TOP, PANEL_WIDTH, PANEL_HEIGHT)
    shown = [ranked.neuron for ranked in part.rankings.get(Ranking.VARIANCE, [])]
    note = "neurons by the standard deviation of their activation"
    page.heading(box.left - 0.45, box.top - 0.36, letter, "Activation spread", note)
    page.aside(box.right, box.top - 0.36, histogram.histogram(page, box, std, std[shown]))
    page.axis_title(box, "standard deviation; the dots are the neurons of c")


def _activity(page: Page, part: BlockPart, letter: str) -> None:
    """At how many tokens each neuron is active, the most active first."""
    box = Box(RIGHT, HEADER_HEIGHT + PANEL_TOP, PANEL_WIDTH - 0.1, PANEL_HEIGHT)
    values = np.sort(np.array(part.fraction_active, dtype=np.float64))[::-1]
    count = len(values)
    scale = Scale.of(values, may_bend=False)
    shown, stride = thin(scale.place(values))
    high = 1.1 if scale.limit else 1.0
    page.heading(
        box.left - 0.45,
        box.top - 0.36,
        letter,
        "Activation frequency",
        "share of the tokens",
    )
    frame = page.frame(box, (0.0, float(count)), (0.0, high))
    awake, alive = float(count - part.dead - part.rare), float(count - part.dead)
    # Single neurons among thousands have a hairline at least.
    hairline = count * HAIRLINE / box.width
    for start, end, ground in ((awake, alive, RARE), (alive, float(count), DEAD)):
        if end > start:
            frame.boxes(([min(start, end - hairline)], [end]), ([0.0], [high]), ground)
    ticks = scale.ticks(2).within(0.0, high)
    frame.level(ticks.places, style.GRID, 0.6)
    at = np.arange(len(shown)) * float(stride)
    frame.boxes((at, np.minimum(at + stride, count)), (0.0, shown), style.PLAIN)
    frame.level([0.0], style.RULE, 0.8)
    frame.ticks("left", ticks.places, ticks.complete)
    step = next(s for s in NICE_STEPS if count / s <= 6)
    frame.ticks("bottom", range(0, count + 1, step), [str(i) for i in range(0, count + 1, step)])
    page.axis_title(box, "neurons, the most often active first")
    _asleep(page, box, part)


def _asleep(page: Page, box: Box, part: BlockPart) -> None:
    """How many neurons are dead and rare, each on its ground, right-aligned above the box."""
    for line, (name, found, ground) in enumerate(
        (("rare", part.rare, RARE), ("dead", part.dead, DEAD))
    ):
        label = f"{found} {name} ({_percent(found, part.num_neurons)})"
        y = box.top - 0.36 + 0.165 * line
        legends.swatches(page, box.right, y, [Entry(ground, label)])


def _percent(found: int, of: int) -> str:
    """Never rounded down to 0 or up to 100."""
    share = 100 * found / of
    if 0 < share < 0.1:
        return "< 0.1%"
    if 99.9 < share < 100:
        return "> 99.9%"
    return f"{share:.1f}%" if found not in (0, of) else f"{share:.0f}%"


def _ranking(page: Page, box: Box, part: BlockPart, ranking: Ranking) -> None:
    ranked = part.rankings[ranking]
    values = np.array([neuron.value for neuron in ranked], dtype=np.float64)
    if ranking is Ranking.POSITION_INFORMATION:
        chance = part.chance_information
        scale = Scale.of(np.append(values, chance), may_bend=False)
    else:
        chance, scale = None, Scale.of(values, may_bend=False)
    frame = panels.level_bars(page, box, "", values, scale)
    frame.ticks("left", range(len(ranked)), [str(neuron.neuron) for neuron in ranked])
    if chance is not None:
        frame.upright(scale.place(np.array([chance])).tolist(), style.INK, 0.8)
