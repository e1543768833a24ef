"""What a layer's neurons look like as a whole, and which of them stand out."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NeuronStatistics:
    """Summary of one layer's neuron activations; rankings hold neuron indices, largest first."""

    mean_activation: float
    activation_std: float
    neuron_diversity: float
    by_activation: list[int]
    by_importance: list[int] | None


def summarise(activation: Tensor, importance: Tensor | None, top_k: int) -> NeuronStatistics:
    """Mean and population std over neurons, neuron_diversity, and the `top_k` by magnitude.

    neuron_diversity is the entropy (nats) of softmax(activation). Without an importance there is no
    ranking by it. Shapes: (d,), (d,).
    """
    wide = activation.to(torch.float64)
    log_share = torch.log_softmax(wide, 0)
    return NeuronStatistics(
        mean_activation=float(wide.mean()),
        activation_std=float(wide.std(correction=0)),
        neuron_diversity=float(-(log_share.exp() * log_share).sum()),
        by_activation=ranking(activation, top_k),
        by_importance=None if importance is None else ranking(importance, top_k),
    )


def ranking(values: Tensor, top_k: int) -> list[int]:
    """Indices of the `top_k` largest in magnitude; equals keep the order of their indices."""
    order = torch.sort(values.abs(), descending=True, stable=True).indices
    return [int(index) for index in order[:top_k]]
