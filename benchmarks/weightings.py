"""Two weightings of one layer's hidden attention together against one after the other."""

from collections.abc import Iterator

import torch

from benchmarks.row import Promise, Row
from benchmarks.systems import CHANNELS, initialised, unforgetting
from benchmarks.timing import Contest, effort
from workers.kernels.hidden_attention import attention_matrices, attention_matrix


def rows(quick: bool) -> Iterator[Row]:
    """The pair of a job: mean attention (ones) and gradient-guided (gradient and input)."""
    draw = torch.Generator().manual_seed(2)
    for length in (256, 1024):
        for kind, system in (
            ("decays as initialised", initialised(length)),
            ("nothing forgotten", unforgetting(length)),
        ):
            weights = torch.randn(2, length, CHANNELS, generator=draw).unbind()
            pair = [(None, None), weights]
            yield Contest(
                what=f"two weightings together, L={length}, {kind}",
                against="one after the other",
                promise=Promise("<=", 1.0),
            ).between(
                lambda system=system, pair=pair: attention_matrices(*system, pair),
                lambda system=system, pair=pair: [attention_matrix(*system, *p) for p in pair],
                effort(quick),
            )
