"""The scan of an SSD mixer (Mamba-2), with a backward pass that keeps a state a piece.

h_t = exp(A delta_t) h_{t-1} + delta_t B_t x_t ;  y_t = C_t . h_t, a scalar A a head, B and C shared
by the heads of a group. Source: Dao and Gu, "Transformers are SSMs" (2405.21060), section 6. Inside
chunks of tokens the scan is computed as attention, between them as a recurrence; the backward pass
runs each piece of chunks again. Plain torch, on any device. Slow twin: tests/reference/ssd.py.

Axes: b text, l token, c (t, s) token of a chunk, h head, p channel of a head, g group, n state.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from schemas import pieces

# Which of `Inputs` is A: it has no tokens, so its parts add up.
_A = 2

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def ssd_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """y (b, l, h, p) without D, and the state (b, h, n, p) after the last token; float32.

    Shapes: x (b, l, h, p); delta (b, l, h) >= 0; A (h,) < 0; B, C (b, l, g, n); state, zero unless
    given, as returned. Differentiable in every tensor once. Cost: O(b l (c (n + h p) + h p n)) time
    with chunks of c tokens; memory O(b l h p), with gradients also a state a piece. With
    gradients many texts are scanned some at a time, so that a piece stays as small.

    Raises ValueError: a tensor's shape does not fit the others.
    """
    inputs = (x.float(), delta.float(), A.float(), B.float(), C.float())
    _check(*inputs)
    if state is None:
        state = x.new_zeros(len(x), x.shape[2], B.shape[3], x.shape[3], dtype=torch.float32)
    # So many that a chunk of each is what a backward pass may run again at once.
    most = max(pieces.PASS_SSD // pieces.CHUNK_SSD, 1)
    has_graph = torch.is_grad_enabled() and any(v.requires_grad for v in (*inputs, state))
    if has_graph and len(x) > most:
        groups = zip(*(torch.split(v, most) for v in (x, delta, B, C, state)), strict=True)
        found = [ssd_scan(x, delta, A, B, C, state) for x, delta, B, C, state in groups]
        return torch.cat([y for y, _ in found]), torch.cat([last for _, last in found])
    y, last = _Scan.apply(*inputs, state)  # type: ignore[no-untyped-call]
    return y, last


class _Scan(torch.autograd.Function):
    """The autograd node."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        y, states = torch.empty_like(x), []
        for piece in _pieces(x):
            states.append(state)
            y[:, piece], state = _piece(*_cut((x, delta, A, B, C), piece), state)
        ctx.save_for_backward(x, delta, A, B, C, *states)
        # What is returned must not be what was given.
        return y, state.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor | None, ...]:
        inputs, states = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
        found = [torch.zeros_like(value) for value in inputs]
        run = list(_pieces(inputs[0]))
        for piece, state in zip(run[::-1], states[::-1], strict=True):
            leaves = [v.detach().requires_grad_() for v in (*_cut(inputs, piece), state)]
            with torch.enable_grad():
                results = _piece(*leaves)
            *own, grad_state = torch.autograd.grad(results, leaves, (grad_y[:, piece], grad_state))
            for index, (total, part) in enumerate(zip(found, own, strict=True)):
                if index == _A:
                    total.add_(part)
                else:
                    total[:, piece] = part
        return (*found, grad_state)


def _pieces(x: Tensor) -> list[slice]:
    texts, length = x.shape[:2]
    size = max(pieces.PASS_SSD // texts // pieces.CHUNK_SSD, 1) * pieces.CHUNK_SSD
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _cut(inputs: Any, piece: slice) -> Inputs:
    x, delta, A, B, C = inputs
    return x[:, piece], delta[:, piece], A, B[:, piece], C[:, piece]


def _piece(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """y and the state after it, a chunk after the other: each one's tensors fit the cache."""
    found = []
    for start in range(0, x.shape[1], pieces.CHUNK_SSD):
        at = slice(start, start + pieces.CHUNK_SSD)
        y, state = _chunk(x[:, at], delta[:, at], A, B[:, at], C[:, at], state)
        found.append(y)
    return torch.cat(found, 1), state


def _chunk(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    # (b, h, c), in float64: differences of it become exponents.
    times = (A.double() * delta.double()).cumsum(1).mT
    B, C = B.transpose(1, 2), C.transpose(1, 2)
    # (b, h, c, p): what each key gives.
    given = (x * delta[..., None]).transpose(1, 2)
    last = times[..., -1:]
    kept = given * (last - times).exp().to(x.dtype)[..., None]
    after = times.exp().to(x.dtype)[..., None]
    y = _weights(times, B, C) @ given + after * _by_group(C, state)
    added = _by_group(B.mT, kept)
    state = torch.addcmul(added, last.exp().to(x.dtype)[..., None], state)
    return y.transpose(1, 2), state


def _weights(times: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """(b, h, t, s): C . B times the decay, zero for s > t."""
    gaps = (times[..., :, None] - times[..., None, :]).float()
    # Above the diagonal the difference may be anything: it is cut before it is an exponent.
    above = torch.ones(gaps.shape[-2:], dtype=torch.bool, device=gaps.device).triu(1)
    decays = gaps.masked_fill(above, -torch.inf).exp()
    scores = C @ B.mT
    texts, heads, rows, keys = decays.shape
    grouped = decays.view(texts, scores.shape[1], -1, rows, keys).mul(scores[:, :, None])
    return grouped.view(texts, heads, rows, keys)


def _by_group(vectors: Tensor, values: Tensor) -> Tensor:
    """(b, h, i, p): vectors (b, g, i, j) of a group times the values (b, h, j, p) of its heads.

    One product a group, its heads' channels side by side.
    """
    groups, (texts, heads, rows, width) = vectors.shape[1], values.shape
    side = values.view(texts, groups, -1, rows, width).transpose(2, 3).flatten(3)
    found = (vectors @ side).view(texts, groups, vectors.shape[2], -1, width)
    return found.transpose(2, 3).reshape(texts, heads, -1, width)


def _check(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> None:
    if x.ndim != 4 or B.ndim != 4:
        raise ValueError(f"x and B must be (b, l, h, p) and (b, l, g, n), are {x.shape}, {B.shape}")
    texts, length, heads, _ = x.shape
    fits = delta.shape == (texts, length, heads) and A.shape == (heads,)
    if not fits or B.shape[:2] != (texts, length) or B.shape != C.shape or heads % B.shape[2]:
        shapes = [tuple(v.shape) for v in (x, delta, A, B, C)]
        raise ValueError(f"x, delta, A, B and C do not go together: {shapes}")
