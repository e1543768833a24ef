"""Two weightings of one layer's hidden attention together against one after the other."""

from collections.abc import Iterator

import torch

from benchmarks.row import Promise, Row
from benchmarks.systems import System, initialised, unforgetting
from benchmarks.timing import Contest, effort
from workers.kernels.hidden_attention import attention_matrices, attention_matrix


def rows(quick: bool) -> Iterator[Row]:
    for length in (128, 256):
        yield _pair(f"L={length}, decays as initialised", initialised(length), quick)
        yield _pair(f"L={length}, nothing forgotten", unforgetting(length), quick)


def _pair(kind: str, system: System, quick: bool) -> Row:
    """The pair of a job: mean attention (ones) and gradient-guided (gradient and input)."""
    p, q = torch.randn(2, *system[0].shape, generator=torch.Generator().manual_seed(2))

    def apart() -> None:
        attention_matrix(*system)
        attention_matrix(*system, p, q)

    contest = Contest(f"two weightings together, {kind}", "one after the other", Promise("<=", 1.0))
    together = [(None, None), (p, q)]
    return contest.between(lambda: attention_matrices(*system, together), apart, effort(quick))
