"""Hidden attention of a selective SSM (S6), without ever materialising it over channels.

For one text of l tokens, with S the cumulative sum of delta over tokens and s <= t,

    alpha[d, t, s] = delta[s, d] sum_n C[t, n] B[s, n] exp(A[d, n] (S[t, d] - S[s, d])),

the weight with which channel d at query t reads its own input at key s (Ali, Zimerman and Wolf,
"The Hidden Attention of Mamba Models", arXiv 2403.01590).

All functions take delta (l, d) >= 0, A (d, n) < 0, B (l, n) and C (l, n); weights p and q are
(l, d), and None stands for ones. Tensors of any floating type are computed in float32 (float64
where sums run long) and results are float32 without a graph. Tensors on the CPU go through
compiled kernels; on any other device through plain torch, which is tested on the CPU only.
Wrong shapes raise `ValueError`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.kernels import _parallel, plain, scans
from workers.kernels.contraction import Text, Weighting, contract


def attention_matrices(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, weightings: Sequence[Weighting]
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
    return [plain.matrices(delta, rates, B, C, pairs) for delta, B, C, pairs in ready]


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
    delta, A, B, C = _system(delta, A, B, C)
    length = delta.shape[0]
    if not -length <= query < length:
        raise IndexError(f"query {query} is outside the text: 0..{length - 1}")
    query %= length
    keys = slice(0, query + 1)
    # numpy's zeros are pages that stay untouched where nothing is left to write.
    out = torch.from_numpy(np.zeros(delta.shape, np.float32)).to(delta.device)
    if delta.is_cpu:
        _over_channels(
            scans.row,
            delta[keys].numpy(),
            A.T.contiguous().numpy(),
            B[keys].numpy(),
            C[query].numpy(),
            out[keys].numpy(),
        )
    else:
        out[keys] = plain.row(delta[keys], A, B[keys], C[query])
    return out


def weighted_row(
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    r: Tensor,
    p: Tensor | None = None,
    q: Tensor | None = None,
) -> Tensor:
    """r^T K (l,) for r (l,), by one reverse scan.

    G[s] = exp(A delta[s+1]) G[s+1] + r[s] p[s] C[s];  (r^T K)[s] = mean_d q[s] delta[s] B[s].G[s].
    A one-hot r gives a row of K, ones give its column sums. O(l d n) time, O(d n + l d) memory.
    """
    delta, A, B, C = _system(delta, A, B, C)
    if r.shape != delta.shape[:1]:
        raise ValueError(f"r must be ({delta.shape[0]},), is {tuple(r.shape)}")
    r = _operand(r, delta.device)
    p = torch.ones_like(delta) if p is None else _like(p, delta, "p")
    q = torch.ones_like(delta) if q is None else _like(q, delta, "q")
    if not delta.is_cpu:
        return plain.weighted(delta, A, B, C, r, p, q)
    length, d = delta.shape
    # Beyond its last non-zero weight a reverse scan has nothing to read.
    used = int(r.nonzero().max()) + 1 if bool(r.any()) else 0
    out = torch.zeros(length)
    if used:
        blocks = torch.empty(-(-d // scans.WIDTH), used, dtype=torch.float64)
        _over_channels(
            scans.weighted,
            delta[:used].numpy(),
            A.T.contiguous().numpy(),
            B.numpy(),
            C.numpy(),
            r.numpy(),
            p.numpy(),
            (q * delta).numpy(),
            blocks.numpy(),
        )
        out[:used] = blocks.sum(0) / d
    return out


def attention_moments(
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    p: Tensor | None = None,
    q: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean (d,) and population standard deviation (d,) of p[t] q[s] alpha over the pairs s <= t.

    Exact and linear in l: the sum is the scan run on q; the sum of squares is a scan whose state is
    the symmetric n x n product state with rates A_n + A_m. O(l d n^2) time, O(l d) memory. Sums are
    float64, so that the variance survives a mean far larger than the deviation.
    """
    delta, A, B, C = _system(delta, A, B, C)
    p = torch.ones_like(delta) if p is None else _like(p, delta, "p")
    q = torch.ones_like(delta) if q is None else _like(q, delta, "q")
    length, d = delta.shape
    if delta.is_cpu:
        sums = torch.zeros(2, d, dtype=torch.float64)
        _over_channels(
            scans.moments,
            delta.numpy(),
            A.T.contiguous().numpy(),
            B.numpy(),
            C.numpy(),
            p.numpy(),
            (q * delta).numpy(),
            sums.numpy(),
        )
        total, square = sums[0], sums[1]
    else:
        total, square = plain.moments(delta, A, B, C, p, q)
    pairs = length * (length + 1) / 2
    mean = total / pairs
    if length == 1:
        # One pair has no spread; the difference of two sums would leave their rounding.
        return mean.float(), torch.zeros_like(mean).float()
    return mean.float(), (square / pairs - mean**2).clamp_min(0.0).sqrt().float()


def apply_attention(delta: Tensor, A: Tensor, B: Tensor, C: Tensor, x: Tensor) -> Tensor:
    """y' (l, d): y'[t, d] = sum_s alpha[d, t, s] x[s, d], in attention form.

    Exponentials of differences of S inside short blocks, a carried state between them: independent
    of the token-by-token recurrence, which it serves to check. O(l d n) time, O(l d) memory.
    """
    delta, A, B, C = _system(delta, A, B, C)
    x = _like(x, delta, "x")
    if not delta.is_cpu:
        return plain.apply(delta, A, B, C, x)
    out = torch.empty_like(delta)
    _over_channels(
        scans.apply,
        delta.numpy(),
        A.T.contiguous().numpy(),
        B.numpy(),
        C.numpy(),
        (x * delta).numpy(),
        out.numpy(),
    )
    return out


def _over_channels(kernel: Callable[..., None], delta: Any, A: Any, *args: Any) -> None:
    """Share `kernel`'s blocks of channels among threads."""
    blocks = -(-delta.shape[1] // scans.WIDTH)
    _parallel.run(kernel, blocks, delta.size * A.shape[0], delta, A, *args, grain=1)


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
