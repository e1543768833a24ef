"""What one call computes together, against a call each: weightings of a text, texts of a layer."""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.agreement import require_close
from benchmarks.row import Promise, Row
from benchmarks.systems import System, initialised, unforgetting
from benchmarks.timing import Contest, effort
from workers.kernels.hidden_attention import (
    Text,
    Weights,
    attention_matrices,
    attention_matrix,
    batch_matrices,
)

TEXTS = 16


def rows(quick: bool) -> Iterator[Row]:
    for length in (128, 256):
        yield _weightings(f"L={length}, decays as initialised", initialised(length), quick)
        yield _weightings(f"L={length}, nothing forgotten", unforgetting(length), quick)
    yield _texts(32, quick)


def _weightings(kind: str, system: System, quick: bool) -> Row:
    """The pair of a job: mean attention (ones) and gradient-guided (gradient and input)."""
    pair = _pair(system)

    def apart() -> None:
        for p, q in pair:
            attention_matrix(*system, p, q)

    return Contest(
        f"two weightings together, {kind}", "one after the other", Promise("<=", 1.0)
    ).between(lambda: attention_matrices(*system, pair), apart, effort(quick))


def _texts(length: int, quick: bool) -> Row:
    """Short texts, each of which alone is over before a second thread has begun."""
    delta, A, B, C = initialised(length * TEXTS)
    cuts = [slice(start, start + length) for start in range(0, length * TEXTS, length)]
    texts = [
        Text(delta[cut], B[cut], C[cut], _pair((delta[cut], A, B[cut], C[cut]))) for cut in cuts
    ]

    def apart() -> list[list[Tensor]]:
        return [attention_matrices(t.delta, A, t.B, t.C, t.weightings) for t in texts]

    for ours, theirs in zip(batch_matrices(A, texts), apart(), strict=True):
        require_close("matrices of many texts", torch.stack(ours), torch.stack(theirs))
    return Contest(
        f"{TEXTS} texts of L={length} together, two weightings", "one after the other"
    ).between(lambda: batch_matrices(A, texts), apart, effort(quick))


def _pair(system: System) -> list[Weights]:
    p, q = torch.randn(2, *system[0].shape, generator=torch.Generator().manual_seed(2))
    return [(None, None), (p, q)]
