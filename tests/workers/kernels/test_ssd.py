"""SSD's hidden attention against its materialised twin in float64, at any shape."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import ssd as slow
from workers.kernels import ssd

# float32 sums of some hundred products, relative to the largest entry.
TOLERANCE = 3e-6


@dataclass(frozen=True)
class Case:
    """A random system with weights and values, and its twin's alpha."""

    system: ssd.System
    p: Tensor
    q: Tensor
    alpha: Tensor

    @property
    def wide(self) -> Tensor:
        """alpha by channel (d, t, s)."""
        return self.alpha.repeat_interleave(self.p.shape[1] // self.system.heads, 0)

    def matrix(self, weighted: bool) -> Tensor:
        """K (l, l) in float64."""
        p, q = (w.double().numpy() for w in (self.p, self.q))
        ones = np.ones_like(p)
        pair = (p, q) if weighted else (ones, ones)
        return torch.from_numpy(slow.matrix(self.alpha.numpy(), *pair))


def case(
    length: int, groups: int = 2, per_group: int = 2, channels: int = 3, n: int = 4, seed: int = 0
) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    heads = groups * per_group
    delta = torch.nn.functional.softplus(draw(length, heads) - 1)
    A = -torch.exp(1.5 * draw(heads))
    system = ssd.System(delta, A, draw(length, groups, n), draw(length, groups, n))
    found = slow.alpha(*(v.double().numpy() for v in (delta, A, system.B, system.C)))
    width = heads * channels
    return Case(system, draw(length, width), draw(length, width), torch.from_numpy(found))


def close(found: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> None:
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=tolerance * max(scale, 1e-12))


SHAPES = {
    "length": st.integers(1, 150),
    "groups": st.integers(1, 3),
    "per_group": st.integers(1, 3),
    "channels": st.integers(1, 4),
    "n": st.integers(1, 6),
    "seed": st.integers(0, 1000),
}


@settings(max_examples=40, deadline=None)
@given(**SHAPES)
def test_everything_agrees_with_the_twin(**shape: int) -> None:
    made = case(**shape)
    system, p, q = made.system, made.p, made.q
    plain, weighted = ssd.attention_matrices(system, [(None, None), (p, q)])
    close(plain, made.matrix(weighted=False))
    close(weighted, made.matrix(weighted=True))
    mixed, sums = ssd.apply_attention(system, q)
    close(mixed, torch.einsum("dts,sd->td", made.wide, q.double()))
    close(sums, made.alpha.sum(2).T)
    r = torch.randn(2, system.length)
    for pair, weigh in (((None, None), False), ((p, q), True)):
        close(ssd.weighted_rows(system, r, *pair), r.double() @ made.matrix(weigh), 1e-5)
    row = ssd.attention_row(system, system.C[-1], torch.zeros(system.heads))
    close(row, made.alpha[:, -1].T)


@pytest.mark.parametrize("pieces", [[100], [64, 36], [1, 99], [33, 33, 34]])
def test_a_text_in_pieces_is_the_text(pieces: list[int]) -> None:
    made = case(100)
    system, p, q = made.system, made.p, made.q
    borders = [sum(pieces[:count]) for count in range(len(pieces) + 1)]
    tokens = [slice(start, stop) for start, stop in pairwise(borders)]
    state = ssd.carried_state(system, 1, 4)
    plain, weighted = ssd.Moments.start(system, 4), ssd.Moments.start(system, 12)
    mixed = []
    for at in tokens:
        part, ends = system.at(at), {"first": at.start == 0, "last": at.stop == 100}
        mixed.append(ssd.apply_attention(part, q[at], state)[0])
        plain.read(part, None, None, **ends)
        weighted.read(part, p[at], q[at], **ends)
    close(torch.cat(mixed), torch.einsum("dts,sd->td", made.wide, q.double()))
    rows = torch.randn(3, 100)
    backwards = ssd.carried_state(system, 3, 3)
    found = [
        ssd.weighted_rows(system.at(at), rows[:, at], p[at], q[at], backwards)
        for at in reversed(tokens)
    ]
    close(torch.cat(found[::-1], 1), rows.double() @ made.matrix(weighted=True), 1e-5)
    products = torch.einsum("td,sd,dts->dts", p.double(), q.double(), made.wide)
    for moments, pairs in ((plain, made.alpha), (weighted, products)):
        at_pairs = pairs[:, *torch.tril_indices(100, 100)]
        wanted = at_pairs.std(1, correction=0)
        close(moments.deviation(pairs.sum((1, 2)), 100), wanted, 1e-5)


def test_a_row_of_an_earlier_piece_is_read_over_the_gap() -> None:
    made = case(50)
    system = made.system
    gap = system.decay[-1] - system.decay[29]
    row = ssd.attention_row(system.at(slice(0, 30)), system.C[-1], gap)
    close(row, made.alpha[:, -1, :30].T)


def test_decays_beyond_float32_are_zero_and_nothing_is_not_a_number() -> None:
    made = case(120)
    system = ssd.System(made.system.delta * 1e4, made.system.A, made.system.B, made.system.C)
    plain, weighted = ssd.attention_matrices(system, [(None, None), (made.p, made.q)])
    for found in (plain, weighted, *ssd.apply_attention(system, made.q)):
        assert bool(torch.isfinite(found).all())
    assert float(plain.tril(-40).abs().max()) == 0.0


def test_shapes_that_do_not_fit_are_refused() -> None:
    system = case(5).system
    with pytest.raises(ValueError, match="must be"):
        ssd.System(system.delta, system.A[:1], system.B, system.C)
    with pytest.raises(ValueError, match="groups"):
        ssd.System(system.delta[:, :3], system.A[:3], system.B, system.C)
    with pytest.raises(ValueError, match="B and C"):
        ssd.System(system.delta, system.A, system.B, system.C[:4])
    with pytest.raises(ValueError, match="weights"):
        ssd.apply_attention(system, torch.ones(5, 5))
    with pytest.raises(ValueError, match="r must"):
        ssd.weighted_rows(system, torch.ones(4))
