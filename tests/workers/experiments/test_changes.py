"""What an intervention writes in the place of neurons, and that it touches no others."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from schemas.names import Block, Intervening
from schemas.sections import Intervention
from workers.experiments.changes import Change, Condition, Moments
from workers.mixers.sites import Place, Site

PLACE: Place = (2, Block.MLP)
SITE = Site(*PLACE, nn.Linear(6, 3))
STD = torch.tensor([0.5, 1.0, 2.0, 0.0, 1.0, 1.0], dtype=torch.float64)
LENGTHS = [4000, 3990]
CONDITIONS = [
    Condition({PLACE: np.array([0, 2])}, (7, 0), "the first"),
    Condition({(0, Block.MIXER): np.array([1])}, (7, 1), "one elsewhere"),
    Condition({PLACE: np.array([2, 3, 5])}, (7, 2), "the third"),
]


def change(kind: Intervening, **more: float) -> Change:
    moments = {PLACE: Moments(torch.arange(6, dtype=torch.float64) + 0.1, STD)}
    asked = Intervention(kind=kind, **more)
    return Change(asked, CONDITIONS, moments, [(0, 0), (0, 1)], LENGTHS)


def neurons(seed: int = 0) -> Tensor:
    """Of three conditions of two texts."""
    x = torch.randn(2, LENGTHS[0], 6, generator=torch.Generator().manual_seed(seed))
    return x.repeat(3, 1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (change(Intervening.ZERO), lambda x, _: 0 * x),
        (change(Intervening.MEAN), lambda x, neuron: 0 * x + neuron + 0.1),
        (change(Intervening.SCALE, factor=0.3), lambda x, _: 0.3 * x),
    ],
    ids=["zero", "mean", "scale"],
)
def test_only_a_conditions_neurons_are_changed(
    asked: Change, expected: object, dtype: torch.dtype
) -> None:
    x = neurons().to(dtype)
    before = x.clone()
    found = asked.at(SITE, 0)(x)
    assert torch.equal(x, before)
    assert found.dtype == dtype
    for row in range(6):
        own = CONDITIONS[row // 2].chosen.get(PLACE, np.array([], int)).tolist()
        for neuron in range(6):
            wanted = x[row, :, neuron]
            if neuron in own:
                # Rounded once, from the number in full.
                wanted = expected(wanted.float(), neuron).to(dtype)  # type: ignore[operator]
            assert torch.equal(found[row, :, neuron], wanted), (row, neuron)


def test_noise_is_normal_with_each_neurons_own_spread_and_ends_with_the_text() -> None:
    x = neurons()
    noise = change(Intervening.NOISE, std=3.0).at(SITE, 0)(x) - x
    for row in range(6):
        own = CONDITIONS[row // 2].chosen.get(PLACE, np.array([], int)).tolist()
        length = LENGTHS[row % 2]
        assert not noise[row, length:].any()
        for neuron in range(6):
            drawn = noise[row, :length, neuron].double()
            if neuron not in own or not STD[neuron]:
                assert not drawn.any()
                continue
            spread = float(3 * STD[neuron])
            # Five standard errors of a mean and of a standard deviation of 4000.
            assert abs(float(drawn.mean())) < 5 * spread / 4000**0.5
            assert float(drawn.std()) == pytest.approx(spread, rel=5 / 8000**0.5)
            assert float((drawn.abs() > 1.96 * spread).double().mean()) == pytest.approx(
                0.05, abs=0.018
            )


def test_noise_differs_between_neurons_texts_and_conditions() -> None:
    x = neurons()
    noise = change(Intervening.NOISE).at(SITE, 0)(x) - x
    drawn = [noise[0, :, 0], noise[0, :, 2] / 2, noise[1, :, 2] / 2, noise[4, :, 2] / 2]
    drawn += [noise[4, :, 5], noise[5, :, 5]]
    together = torch.corrcoef(torch.stack(drawn)) - torch.eye(len(drawn))
    assert float(together.abs().max()) < 5 / 4000**0.5


def test_noise_of_pieces_is_that_of_the_whole() -> None:
    x = neurons()
    whole = change(Intervening.NOISE).at(SITE, 0)(x)
    pieces = change(Intervening.NOISE)
    found = [pieces.at(SITE, start)(x[:, start : start + 1117]) for start in range(0, 4000, 1117)]
    assert torch.equal(torch.cat(found, 1), whole)
