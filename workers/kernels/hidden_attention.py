"""Hidden attention of a selective SSM (S6), without ever materialising it over channels.

For one text of l tokens, with S the cumulative sum of delta over tokens and s <= t,

    alpha[d, t, s] = delta[s, d] sum_n C[t, n] B[s, n] exp(A[d, n] (S[t, d] - S[s, d])),

the weight with which channel d at query t reads its own input at key s (Ali, Zimerman and Wolf,
"The Hidden Attention of Mamba Models", arXiv 2403.01590).

All functions take delta (l, d) >= 0, A (d, n) < 0, B (l, n) and C (l, n); weights p and q are
(l, d), and None stands for ones. Tensors of any floating type are computed in float32 (float64
where sums run long) and results are float32 without a graph. Tensors on the CPU go through
compiled kernels, on a GPU through those of Triton where it is installed, else through plain torch;
no function waits for a GPU.
Wrong shapes raise `ValueError`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from workers.kernels import _apply_numba, _gpu, _parallel, _reads_numba, _reads_torch
from workers.kernels._contraction import Text, Weights, contract
from workers.kernels._simd import EXP_FLOOR


def attention_matrices(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, weightings: Sequence[Weights]
) -> list[Tensor]:
    """K (l, l) for each (p, q): K[t, s] = (1/d) sum_d p[t, d] q[s, d] alpha[d, t, s].

    Zero above the diagonal. Per weighting at most l^2 d n floating-point operations, those of the
    lower triangle of one (l, d n) by (d n, l) product, and fewer where the model forgets; the
    exponentials, O(l d n), are shared on short texts, where they weigh. Memory: O(l^2) and O(l d) a
    weighting, and two factors (l, 256) a thread.
    """
    return batch_matrices(A, [Text(delta, B, C, weightings)])[0]


def batch_matrices(A: Tensor, texts: Sequence[Text]) -> list[list[Tensor]]:
    """`attention_matrices` of many texts of one layer, of any lengths, as if called for each.

    For short texts, which by themselves are over before a second thread has begun. Texts without
    the same number of weightings raise `ValueError`.
    """
    if len({len(text.weightings) for text in texts}) > 1:
        raise ValueError("all texts of a batch must have the same number of weightings")
    ready = []
    for text in texts:
        delta, rates, B, C = _system(text.delta, A, text.B, text.C)
        pairs = [
            (
                None if p is None else _like(p, delta, "p"),
                None if q is None else _like(q, delta, "q"),
            )
            for p, q in text.weightings
        ]
        ready.append(Text(delta, B, C, pairs))
    if not ready or not ready[0].weightings:
        return [[] for _ in ready]
    if ready[0].delta.is_cpu:
        return contract(rates, ready)
    return [_reads_torch.matrices(delta, rates, B, C, pairs) for delta, B, C, pairs in ready]


def attention_matrix(
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    p: Tensor | None = None,
    q: Tensor | None = None,
) -> Tensor:
    """The one matrix of `attention_matrices` for a single weighting."""
    return attention_matrices(delta, A, B, C, [(p, q)])[0]


def attention_row(delta: Tensor, A: Tensor, B: Tensor, C: Tensor, query: int) -> Tensor:
    """alpha[d, query, s] as (l, d), zero for s > query.

    O(l d n) time, O(d n) memory beside the result. `query` may count from the end; outside the
    text raises `IndexError`.
    """
    length = delta.shape[0]
    if not -length <= query < length:
        raise IndexError(f"query {query} is outside the text: 0..{length - 1}")
    query %= length
    keys = slice(0, query + 1)
    gap = torch.zeros(delta.shape[1], dtype=torch.float64, device=delta.device)
    found = row_before(delta[keys], A, B[keys], C[query], gap)
    return torch.nn.functional.pad(found, (0, 0, 0, length - query - 1))


def row_before(delta: Tensor, A: Tensor, B: Tensor, c: Tensor, gap: Tensor) -> Tensor:
    """alpha[d, t, s] as (l, d) for the l tokens s of a piece that ends at or before query t.

    c = C[t] (n,). gap (d,) float64 is delta summed over the tokens from the piece's end up to t,
    zero where the piece ends with t; the piece's own are added to it, as far as anything is left to
    read, so that the piece before can be read next. O(l d n) time, O(d n) memory beside the result.
    """
    delta, A, B, _ = _system(delta, A, B, B)
    c = _operand(c, delta.device)
    if not delta.is_cpu:
        found: Tensor = _reads(delta).row(delta, A, B, c, gap)
        return found
    # numpy's zeros are pages that stay untouched where nothing is left to write.
    out = torch.from_numpy(np.zeros(delta.shape, np.float32))
    rates = A.T.contiguous().numpy()
    arrays = (B.numpy(), c.numpy(), gap.numpy(), out.numpy())
    _over_channels(_reads_numba.row, _reads_numba.ROW_WIDTH, delta.numpy(), rates, *arrays)
    return out


def forgotten(A: Tensor, gap: Tensor) -> bool:
    """Whether every decay over `gap` (d,) is zero in float32, so that nothing is left to read.

    On another device than the CPU the answer is no: to wait for it would cost more than it saves.
    """
    return gap.is_cpu and bool((A.amax(1) * gap < EXP_FLOOR).all())


def carried_state(A: Tensor, count: int) -> Tensor:
    """(count, d, n) float64 zeros: the state of a scan that has read nothing yet."""
    return torch.zeros(count, *A.shape, dtype=torch.float64, device=A.device)


def weighted_rows(
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    r: Tensor,
    p: Tensor | None = None,
    q: Tensor | None = None,
    state: Tensor | None = None,
) -> Tensor:
    """r K (k, l) for k rows r (k, l), by one reverse scan that shares the exponentials.

    G[s] = exp(A delta[s+1]) G[s+1] + r[s] p[s] C[s];  (r K)[s] = mean_d q[s] delta[s] B[s].G[s].
    A one-hot row of r gives a row of K, ones give its column sums. `state`, k of `carried_state`,
    carries a text on from the piece after this one, and is left for the piece before. O(k l d n)
    time, O(k d n) memory.
    """
    delta, A, B, C = _system(delta, A, B, C)
    if r.ndim != 2 or r.shape[1] != delta.shape[0]:
        raise ValueError(f"r must be (k, {delta.shape[0]}), is {tuple(r.shape)}")
    r = _operand(r, delta.device)
    p, q = _optional(p, delta, "p"), _optional(q, delta, "q")
    state = carried_state(A, len(r)) if state is None else state
    if not delta.is_cpu:
        rows: Tensor = _reads(delta).weighted(delta, A, B, C, r, *_ones(p, q, delta), state)
        return rows
    length, d = delta.shape
    width = _reads_numba.WEIGHTED_WIDTH
    parts = torch.empty(-(-d // width), len(r), length, dtype=torch.float64)
    arrays = [v.numpy() for v in (B, C, r, p, q, state, parts)]
    _over_channels(_reads_numba.weighted, width, delta.numpy(), A.T.contiguous().numpy(), *arrays)
    return (parts.sum(0) / d).float()


@dataclass(frozen=True)
class Moments:
    """Sums over the pairs s <= t of p[t] q[s] alpha and of its square, as a text is read.

    Exact and linear in l: the sum is the scan run on q; the sum of squares is a scan whose state is
    the symmetric n x n product state with rates A_n + A_m. O(l d n^2) time, O(d n^2) memory. All is
    float64, so that the variance survives a mean far larger than the deviation. state (d, n),
    products (d, n, n), totals (2, d).
    """

    state: Tensor
    products: Tensor
    totals: Tensor

    @classmethod
    def start(cls, A: Tensor) -> Self:
        """Nothing read yet."""
        (d, n), like = A.shape, A.new_empty(0, dtype=torch.float64)
        return cls(like.new_zeros(d, n), like.new_zeros(d, n, n), like.new_zeros(2, d))

    def read(
        self,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        p: Tensor | None = None,
        q: Tensor | None = None,
    ) -> None:
        """Go on through the next piece of the text."""
        delta, A, B, C = _system(delta, A, B, C)
        p, q = _optional(p, delta, "p"), _optional(q, delta, "q")
        if not delta.is_cpu:
            weights = _ones(p, q, delta)
            carried = (self.state, self.products, self.totals)
            _reads(delta).moments(delta, A, B, C, *weights, *carried)
            return
        arrays = [v.numpy() for v in (B, C, p, q, self.state, self.products, self.totals)]
        arrays = [A.T.contiguous().numpy(), *arrays]
        _over_channels(_reads_numba.moments, _reads_numba.MOMENTS_WIDTH, delta.numpy(), *arrays)

    def deviation(self, length: int) -> Tensor:
        """Population standard deviation (d,) after `length` tokens."""
        pairs = length * (length + 1) / 2
        mean = self.totals[0] / pairs
        if length == 1:
            # One pair has no spread; the difference of two sums would leave their rounding.
            return torch.zeros_like(mean).float()
        return (self.totals[1] / pairs - mean**2).clamp_min(0.0).sqrt().float()


def apply_attention(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, x: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """y' (l, d), y'[t, d] = sum_s alpha[d, t, s] x[s, d], and mean_d sum_s alpha[d, t, s] (l,).

    In attention form: exponentials of differences of S inside short blocks, a carried state between
    them, independent of the token-by-token recurrence, which it serves to check. `state`, two of
    `carried_state`, carries a text on from the piece before. O(l d n) time, O(l d) memory.
    """
    delta, A, B, C = _system(delta, A, B, C)
    x = _like(x, delta, "x")
    state = carried_state(A, 2) if state is None else state
    if not delta.is_cpu:
        applied_to: tuple[Tensor, Tensor] = _reads(delta).apply(delta, A, B, C, x, state)
        return applied_to
    length, d = delta.shape
    out = torch.empty_like(delta)
    sums = torch.empty(-(-d // _apply_numba.WIDTH), length, dtype=torch.float64)
    arrays = [v.numpy() for v in (B, C, x, state, out, sums)]
    rates = A.T.contiguous().numpy()
    _over_channels(_apply_numba.apply, _apply_numba.WIDTH, delta.numpy(), rates, *arrays)
    return out, (sums.sum(0) / d).float()


def _reads(tensor: Tensor) -> Any:
    """What computes the functions with a state where `tensor` is: Triton's kernels, plain torch."""
    kernels = _gpu.usable("workers.kernels._reads_triton") if tensor.is_cuda else None
    return kernels or _reads_torch


def _over_channels(kernel: Callable[..., None], width: int, delta: Any, A: Any, *args: Any) -> None:
    """Share `kernel`'s blocks of `width` channels among threads."""
    blocks = -(-delta.shape[1] // width)
    _parallel.run(kernel, blocks, delta.size * A.shape[0], delta, A, *args, grain=1)


def _optional(values: Tensor | None, delta: Tensor, name: str) -> Tensor:
    """Weights, or the empty tensor that stands for ones."""
    return delta.new_empty(0, 0) if values is None else _like(values, delta, name)


def _ones(p: Tensor, q: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Weights with ones written out, as one row for all tokens."""
    ones = delta.new_ones(delta.shape[1]).expand_as(delta)
    return (p if p.numel() else ones), (q if q.numel() else ones)


def _system(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four tensors as contiguous float32 on one device, their shapes checked."""
    if delta.ndim != 2 or 0 in delta.shape:
        raise ValueError(f"delta must be (l, d) and not empty, is {tuple(delta.shape)}")
    length, d = delta.shape
    if A.ndim != 2 or A.shape[0] != d or A.shape[1] == 0:
        raise ValueError(f"A must be ({d}, n) to go with delta, is {tuple(A.shape)}")
    for name, tensor in (("B", B), ("C", C)):
        if tensor.shape != (length, A.shape[1]):
            wanted = (length, A.shape[1])
            raise ValueError(f"{name} must be {wanted} to go with A, is {tuple(tensor.shape)}")
    device = delta.device
    return _operand(delta, device), _operand(A, device), _operand(B, device), _operand(C, device)


def _like(values: Tensor, delta: Tensor, name: str) -> Tensor:
    if values.shape != delta.shape:
        raise ValueError(f"{name} must be {tuple(delta.shape)} like delta, is {values.shape}")
    return _operand(values, delta.device)


def _operand(values: Tensor, device: torch.device) -> Tensor:
    """What kernels read: contiguous float32 without a graph."""
    return values.detach().to(device=device, dtype=torch.float32).contiguous()
