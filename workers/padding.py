"""Texts of different lengths side by side: right-padded, which a causal model never sees.

Axes: b texts, l tokens.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

# So many tokens of padding are no matter, however short the shortest text.
_SPARE = 16


def padded(texts: Iterable[Sequence[int]]) -> Tensor:
    """(b, l): the texts' ids, 0 past a text's end."""
    return nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in texts], batch_first=True)


def pads_little(shortest: int, longest: int) -> bool:
    """Whether texts of these lengths may pass together: padding stays below half, or short."""
    return longest <= 2 * shortest + _SPARE
