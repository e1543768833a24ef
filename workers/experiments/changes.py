"""What an intervention does to the neurons of a pass, each condition to its own.

Axes: c conditions, n texts, p tokens of a piece, d neuron, k (condition, neuron) pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.names import Block, Intervening
from schemas.sections import Intervention
from workers.analyses.perturbation import Chosen
from workers.kernels.activation_moments import ActivationMoments
from workers.mixers.sites import Place, Site


@dataclass(frozen=True)
class Moments:
    """Mean and population standard deviation (d,) of a block's neurons over the texts' tokens."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, found: ActivationMoments) -> "Moments":
        """Those that were measured."""
        return cls(torch.from_numpy(found.mean), torch.from_numpy(np.sqrt(found.variance)))


@dataclass(frozen=True)
class Condition:
    """Neurons that are changed together; `seed` is what their noise is drawn from.

    whose: what messages call them.
    """

    chosen: Chosen
    seed: tuple[int, ...]
    whose: str

    @property
    def lowest(self) -> int:
        """The first layer that is changed."""
        return min(layer for layer, _ in self.chosen)


@dataclass
class Change:
    """One intervention under several conditions, on one pass of (c n) rows: text by text in each.

    texts: what each text's noise is drawn from beside its condition's seed; lengths: its tokens.
    The noise of a token depends on the seeds and its place alone, not on what passes beside it.
    """

    intervention: Intervention
    conditions: Sequence[Condition]
    moments: Mapping[Place, Moments]
    texts: Sequence[tuple[int, int]]
    lengths: Sequence[int]
    _masks: dict[Place, Tensor] = field(default_factory=dict)
    _draws: dict[tuple[Place, int, int], np.random.Generator] = field(default_factory=dict)

    @property
    def places(self) -> set[Place]:
        """The blocks that any condition changes."""
        return {place for condition in self.conditions for place in condition.chosen}

    def at(self, site: Site, start: int) -> Callable[[Tensor], Tensor]:
        """What puts changed neurons (c n, p, d) in the place of a piece's, tokens from `start` on.

        Pieces must come in order.
        """

        def change(x: Tensor) -> Tensor:
            by_condition = x.reshape(len(self.conditions), len(self.texts), *x.shape[1:])
            return self._changed(site.place, by_condition, start).reshape(x.shape)

        return change

    def _changed(self, place: Place, x: Tensor, start: int) -> Tensor:
        kind = self.intervention.kind
        if kind is Intervening.NOISE:
            return self._noised(place, x, start)
        # Whole tensors: as fast as a copy, where single neurons of every token are far apart.
        mask = self._mask(place, x)
        if kind is Intervening.ZERO:
            return x.masked_fill(mask, 0.0)
        if kind is Intervening.MEAN:
            return torch.where(mask, self.moments[place].mean.to(x), x)
        # In float32: a factor rounded to half precision would be another one, and one beyond
        # float32 is infinite, which shows in what the model says.
        given = torch.tensor(self.intervention.factor, dtype=torch.float64).float().to(x.device)
        return (x * torch.where(mask, given, 1.0)).to(x.dtype)

    def _mask(self, place: Place, x: Tensor) -> Tensor:
        """(c, 1, 1, d): which neurons of a block each condition changes."""
        if place not in self._masks:
            mask = np.zeros((len(self.conditions), 1, 1, x.shape[-1]), dtype=bool)
            for row, condition in enumerate(self.conditions):
                mask[row, ..., condition.chosen.get(place, [])] = True
            self._masks[place] = torch.from_numpy(mask).to(x.device)
        return self._masks[place]

    def _noised(self, place: Place, x: Tensor, start: int) -> Tensor:
        conditions, neurons = [], []
        for row, condition in enumerate(self.conditions):
            own = condition.chosen.get(place)
            if own is not None:
                conditions.append(np.full(len(own), row))
                neurons.append(own)
        rows, columns = (
            torch.from_numpy(np.concatenate(each)).to(x.device) for each in (conditions, neurons)
        )
        spread = self.intervention.std * self.moments[place].std.float().to(x.device)[columns]
        noise = torch.from_numpy(self._noise(place, x.shape[2], start)).to(x.device)
        found = x.clone()
        # (k, n, p)
        noised = x[rows, :, :, columns] + noise * spread[:, None, None]
        found[rows, :, :, columns] = noised.to(x.dtype)
        return found

    def _noise(self, place: Place, tokens: int, start: int) -> NDArray[np.float32]:
        """(k, n, p) standard normal, 0 past a text's end."""
        parts = []
        for row, condition in enumerate(self.conditions):
            own = condition.chosen.get(place)
            if own is None:
                continue
            noise = np.zeros((len(own), len(self.texts), tokens), np.float32)
            for text, length in enumerate(self.lengths):
                here = min(length - start, tokens)
                if here > 0:
                    # Token by token, so that pieces go on where the one before has ended.
                    drawn = self._draw(place, row, text).standard_normal(
                        (here, len(own)), np.float32
                    )
                    noise[:, text, :here] = drawn.T
            parts.append(noise)
        return np.concatenate(parts)

    def _draw(self, place: Place, row: int, text: int) -> np.random.Generator:
        """Where the noise of one block, condition and text comes from."""
        key = (place, row, text)
        if key not in self._draws:
            layer, block = place
            seed = [*self.conditions[row].seed, *self.texts[text], layer, list(Block).index(block)]
            self._draws[key] = np.random.default_rng(seed)
        return self._draws[key]
