"""Summaries and rankings of neurons."""

import math

import pytest
import torch

from workers.analyses.neurons import ranking, summarise


def test_constant_neurons_are_as_diverse_as_can_be() -> None:
    found = summarise(torch.full((8,), 3.0), torch.zeros(8), 2)
    assert found.neuron_diversity == pytest.approx(math.log(8))
    assert (found.mean_activation, found.activation_std) == (3.0, 0.0)


def test_one_loud_neuron_leaves_no_diversity_and_no_nan() -> None:
    found = summarise(torch.tensor([1e4, 0.0, -1e4]), torch.zeros(3), 1)
    assert found.neuron_diversity == 0.0


def test_two_neurons_by_hand() -> None:
    found = summarise(torch.tensor([0.0, math.log(3)]), torch.tensor([-5.0, 2.0]), 5)
    assert found.neuron_diversity == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert found.activation_std == pytest.approx(math.log(3) / 2)
    assert (found.by_activation, found.by_importance) == ([1, 0], [0, 1])


def test_magnitude_ranks_and_equals_keep_their_order() -> None:
    assert ranking(torch.tensor([1.0, -4.0, 4.0, 0.0, 1.0]), 4) == [1, 2, 0, 4]
