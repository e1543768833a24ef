# ruff: noqa: RUF001 (true multiplication and minus signs are typeset on purpose)

import numpy as np
import pytest

from workers.figures.colours import DIVERGING, SEQUENTIAL, Rgb, ink_on
from workers.figures.scale import BEND, Scale, Ticks

pytestmark = pytest.mark.filterwarnings("error")


def luminance(colours: Rgb) -> np.ndarray:
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def contrast(fill: Rgb, ink: str) -> float:
    text = np.array([int(ink[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.uint8)
    one, other = sorted([float(luminance(fill)), float(luminance(text))])
    return (other + 0.05) / (one + 0.05)


@pytest.mark.parametrize("bent", [False, True])
def test_signed_numbers_are_centred_at_zero(bent: bool) -> None:
    scale = Scale(3.0, signed=True, logarithmic=bent)
    centre = DIVERGING[len(DIVERGING) // 2]
    assert (scale.colours(np.array([0.0])) == centre).all()
    values = np.array([-3.0, -0.5, 0.5, 3.0])
    assert scale.place(values) == pytest.approx(-scale.place(-values))
    assert scale.place(values)[[0, -1]] == pytest.approx([-1, 1])


def test_signed_only_when_a_number_is_negative() -> None:
    assert not Scale.of(np.array([0.0, 2.0])).signed
    assert Scale.of(np.array([-1e-9, 2.0])).signed
    assert not Scale.of(np.array([np.nan, 2.0])).signed
    assert Scale.of(np.array([1.0, 2.0]), signed=True).signed


def test_a_crowded_scale_becomes_logarithmic_and_says_decades() -> None:
    values = np.concatenate([np.full(99, 1e-4), [1.0]])
    scale = Scale.of(values)
    assert scale.logarithmic
    assert not Scale.of(values, may_bend=False).logarithmic
    assert not Scale.of(np.linspace(0, 1, 100)).logarithmic
    assert scale.place(np.array([BEND]))[0] > 0.1
    assert scale.ticks().labels == ["0", "10⁻²", "10⁻¹", "1"]


@pytest.mark.parametrize("limit", [1e-290, 3e-5, 0.02, 0.9999, 1.0, 7.3, 950.0, 1e5, 1e300])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize("per_side", [1, 2, 3])
def test_ticks_lie_on_the_scale(limit: float, signed: bool, bent: bool, per_side: int) -> None:
    ticks = Scale(limit, signed, bent).ticks(per_side)
    assert 2 + signed <= len(ticks.labels) <= 7
    assert len(set(ticks.labels)) == len(ticks.labels)
    assert ticks.places == sorted(ticks.places)
    assert all(-1 - 1e-9 <= place <= 1 + 1e-9 for place in ticks.places)
    assert ticks.labels[ticks.places.index(0.0)] == "0"


def test_tick_labels_are_the_numbers_at_their_places() -> None:
    ticks = Scale(0.0854, signed=False).ticks()
    assert [float(label) / 0.0854 for label in ticks.labels] == pytest.approx(ticks.places)
    small = Scale(4e-5, signed=True).ticks()
    assert small.factor == "×10⁻⁵"
    numbers = [float(label.replace("−", "-")) * 1e-5 / 4e-5 for label in small.labels]
    assert numbers == pytest.approx(small.places)


def test_ticks_outside_a_range_are_left_out_with_their_labels() -> None:
    ticks = Ticks([-1.0, 0.0, 0.5, 1.0], ["−2", "0", "1", "2"], "×10⁻⁵")
    assert ticks.within(0.0, 0.5) == Ticks([0.0, 0.5], ["0", "1"], "×10⁻⁵")


def test_complete_labels_carry_the_factor_but_for_zero() -> None:
    assert Ticks([0.0, 1.0], ["0", "2"], "×10⁻⁵").complete == ["0", "2×10⁻⁵"]
    assert Ticks([0.0, 1.0], ["0", "2"]).complete == ["0", "2"]


@pytest.mark.parametrize("signed", [False, True])
def test_a_ramp_runs_from_the_lower_end_to_the_limit(signed: bool) -> None:
    scale = Scale(3.0, signed, logarithmic=True)
    ends = scale.colours(np.array([scale.lowest * 3.0, 3.0]))
    assert (scale.ramp()[[0, -1]] == ends).all()


@pytest.mark.parametrize("value", [0.0, 1e-310, 1e-300, 1e308])
def test_extreme_numbers(value: float) -> None:
    values = np.array([value, -value])
    scale = Scale.of(values)
    assert np.isfinite(scale.place(values)).all()
    assert scale.ticks().labels


def test_ramps_fall_evenly_in_lightness() -> None:
    # CIE lightness: equal steps look equally large, and a greyscale print keeps the order.
    half = len(DIVERGING) // 2
    for ramp in (SEQUENTIAL, DIVERGING[half:], DIVERGING[half::-1]):
        lightness = 116 * np.cbrt(luminance(ramp)) - 16
        steps = -np.diff(lightness[:: len(ramp) // 8])
        assert (steps > 0).all()
        assert steps.max() < 2.2 * steps.min()
    sides = luminance(DIVERGING[:half]) - luminance(DIVERGING[:half:-1])
    assert np.abs(sides).max() < 0.06


def test_words_can_be_read_on_every_colour() -> None:
    for ramp in (SEQUENTIAL, DIVERGING):
        assert min(contrast(fill, ink_on(fill)) for fill in ramp) > 4.5
