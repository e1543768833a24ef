"""Statistics of neurons over whole texts in memory, in float64: the streaming kernel's twin."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass
class Everything:
    """Texts (l, d) of one block's neurons."""

    texts: Sequence[Floats]

    @property
    def tokens(self) -> Floats:
        return np.concatenate(self.texts)

    @property
    def positions(self) -> Floats:
        return np.concatenate([np.arange(len(text)) for text in self.texts]).astype(float)

    def moment(self, power: int) -> Floats:
        found: Floats = ((self.tokens - self.tokens.mean(0)) ** power).mean(0)
        return found

    def standardised(self, power: int) -> Floats:
        varies = self.tokens.max(0) > self.tokens.min(0)
        spread = np.where(varies, self.moment(2), np.nan)
        return self.moment(power) / spread ** (power / 2)

    def text_variance(self) -> Floats:
        means = np.stack([text.mean(0) for text in self.texts])
        found: Floats = means.var(0)
        return found

    def correlation(self) -> Floats:
        at = self.positions - self.positions.mean()
        centred = self.tokens - self.tokens.mean(0)
        spread = np.sqrt((at**2).mean() * self.moment(2))
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = (at[:, None] * centred).mean(0) / spread
        return np.where(self.tokens.max(0) > self.tokens.min(0), found, np.nan)

    def information(self, borders: Sequence[int]) -> Floats:
        """Mutual information in nats of the bin of the position and of being above 0, by counts."""
        bins = np.searchsorted(borders, self.positions, side="right") - 1
        above = self.tokens > 0
        found = []
        for d in range(above.shape[1]):
            total = 0.0
            for b in np.unique(bins):
                for value in (False, True):
                    both = np.mean((bins == b) & (above[:, d] == value))
                    alone = np.mean(bins == b) * np.mean(above[:, d] == value)
                    total += both * np.log(both / alone) if both else 0.0
            found.append(total)
        return np.array(found)

    def hoyer(self) -> float:
        """Mean over tokens, token by token."""
        found = []
        for token in self.tokens:
            norm = np.sqrt((token**2).sum())
            root = np.sqrt(len(token))
            sparse = (root - np.abs(token).sum() / norm) / (root - 1) if norm and root > 1 else 0.0
            found.append(sparse)
        return float(np.mean(found))

    def strongest(self, neuron: int, most: int) -> list[float]:
        """Magnitudes above 0, largest first."""
        size = np.sort(np.abs(self.tokens[:, neuron]))[::-1]
        return [float(value) for value in size[:most] if value > 0]
