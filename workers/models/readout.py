"""From a model's last hidden states to its logits, as its own code makes them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# What configs multiply or divide the head's output by, and what they cap it at.
_MULTIPLIERS = ("lm_head_multiplier", "logit_scale")
_DIVISORS = ("logits_scaling",)
_CAP = "final_logit_softcapping"


@dataclass(frozen=True)
class Readout:
    """logits = cap tanh(scale head(h) / cap), or scale head(h) without a cap."""

    head: nn.Module
    scale: float
    cap: float | None

    @classmethod
    def of(cls, model: Any) -> "Readout":
        """The readout that a model's config describes; `checking` compares it with the model's."""
        config, scale = model.config, 1.0
        for key in _MULTIPLIERS:
            scale *= getattr(config, key, None) or 1.0
        for key in _DIVISORS:
            scale /= getattr(config, key, None) or 1.0
        return cls(model.get_output_embeddings(), scale, getattr(config, _CAP, None))

    def __call__(self, states: Tensor) -> Tensor:
        """(.., vocab) float32 of states (.., m)."""
        weight: Any = self.head.weight
        logits: Tensor = self.head(states.to(weight.dtype)).float() * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)
