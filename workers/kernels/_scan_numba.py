"""Numba loops of the selective scan, forward and backward, over a range of channel blocks.

Layout: each loop has tokens outside and channels inside, so every inner loop runs over
contiguous channels of one block and LLVM turns it into vector code; the state of a block stays in
the L1 cache. A task is one (text, channel block) pair; the caller hands disjoint task ranges to
threads (`nogil`).

`A2` is `A * log2(e)` transposed to (n, d): the decay is then a bare power of two.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.lib.stride_tricks import as_strided

from workers.kernels._flushing import begin_flushing, end_flushing
from workers.kernels._simd import (
    FAST_MATH,
    exp2_32,
    exp32,
)

# Channels per task, and tokens between two saved states. Measured: wider blocks do not make the
# inner loops faster, and the recomputed states of a chunk must stay in the L2 cache.
BLOCK = 64
CHUNK = 32

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_INF = np.float32(np.inf)
_EXP2_TOP = np.float32(127.0)
# Taylor coefficients of atanh(s) / s in s^2; s <= 1/3 below, so the rest is under 2e-9.
_T1 = np.float32(1.0 / 3.0)
_T2 = np.float32(1.0 / 5.0)
_T3 = np.float32(1.0 / 7.0)
_T4 = np.float32(1.0 / 9.0)
_T5 = np.float32(1.0 / 11.0)
_T6 = np.float32(1.0 / 13.0)
_T7 = np.float32(1.0 / 15.0)

helper = njit(inline="always", fastmath={"contract"})
# Sums here have a fixed order: "reassoc" is for loops over channels, below.
kernel = njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
# "reassoc" lets sums over channels vectorise.
reducing = njit(nogil=True, cache=True, fastmath=FAST_MATH)


@helper
def _decay(exponent: Any) -> Any:
    """2**exponent; NaN and overflow pass through (exp2_32 is for exponents in its own range)."""
    return exp2_32(exponent) if exponent < _EXP2_TOP else exponent * _INF


@helper
def softplus_of(v: Any) -> Any:
    """log(1 + e^v) to float32 rounding, also where it is tiny: log1p(w) = 2 atanh(w / (2 + w))."""
    w = exp32(-abs(v))
    s = w / (_TWO + w)
    q = s * s
    tail = _T1 + q * (_T2 + q * (_T3 + q * (_T4 + q * (_T5 + q * (_T6 + q * _T7)))))
    # Written so that a NaN takes the second branch and stays a NaN.
    positive = _ZERO if v < _ZERO else v
    return positive + _TWO * (s + s * (q * tail))


@helper
def sigmoid(v: Any) -> Any:
    """1 / (1 + e^-v)."""
    w = exp32(-abs(v))
    return (_ONE if v >= _ZERO else w) / (_ONE + w)


@kernel
def _load(source: Any, place: Any, tile: Any) -> None:
    """Copy one block of one chunk into `tile` (token, channel); channels past the last are zero.

    A model's arrays come with either axis contiguous; a copy of a whole one, turned round, would
    cost as much as a third of the scan.
    """
    memory, text, token, channel = source
    b, start, width, t0, size = place
    origin = b * text + t0 * token + start * channel
    if width < BLOCK:
        tile[:] = _ZERO
    if channel == 1:
        for i in range(size):
            row = memory[origin + i * token : origin + i * token + width]
            for c in range(width):
                tile[i, c] = row[c]
        return
    rows = as_strided(memory[origin:], (size, width), (4 * token, 4 * channel))
    if width == BLOCK and size == CHUNK:
        # Squares, so that the lines read and the lines written both stay in the L1 cache.
        for c in range(0, BLOCK, 8):
            for i in range(0, CHUNK, 8):
                for ii in range(8):
                    for cc in range(8):
                        tile[i + ii, c + cc] = rows[i + ii, c + cc]
    else:
        for i in range(size):
            for c in range(width):
                tile[i, c] = rows[i, c]


@kernel
def _prepare(sources: Any, place: Any, vectors: Any, softplus: bool, tiles: Any) -> None:
    """Fill the tiles of one chunk: x, Delta (with softplus), u = Delta x, and D x in y."""
    x_source, dt_source = sources
    D, bias = vectors
    x, delta, u, y = tiles
    _load(x_source, place, x)
    _load(dt_source, place, delta)
    for i in range(place[4]):
        if softplus:
            for c in range(BLOCK):
                delta[i, c] = softplus_of(delta[i, c] + bias[c])
        else:
            for c in range(BLOCK):
                delta[i, c] += bias[c]
        for c in range(BLOCK):
            u[i, c] = delta[i, c] * x[i, c]
            y[i, c] = D[c] * x[i, c]


@kernel
def padded(row: Any, start: int, width: int) -> Any:
    """One block of a vector over channels, zeros past the last channel."""
    block = np.zeros(BLOCK, np.float32)
    block[:width] = row[start : start + width]
    return block


@kernel
def forward(
    first: int,
    last: int,
    sources: Any,
    A2: Any,
    keys: Any,
    vectors: Any,
    gate: Any,
    softplus: bool,
    initial: Any,
    out: Any,
    borders: Any,
    last_state: Any,
) -> None:
    """Scan tasks `first..last`: out (b, l, d), the state before each chunk, and the last state.

    sources: x and dt, and gate: z, each (b, d, l) as (memory, text stride, token stride, channel
    stride), empty memory for no gate; A2 (n, d); keys: B, C (b, l, n); vectors: D, bias (d,);
    initial (b, n, d), the state before the first token; borders (b, chunks, n, d) or empty when no
    backward pass follows; last_state (b, n, d).
    """
    mode = begin_flushing()
    length, channels = out.shape[1], out.shape[2]
    states, blocks = A2.shape[0], (channels + BLOCK - 1) // BLOCK
    h = np.zeros((states, BLOCK), np.float32)
    rate = np.zeros((states, BLOCK), np.float32)
    x = np.empty((CHUNK, BLOCK), np.float32)
    delta, u = np.empty_like(x), np.empty_like(x)
    y, z = np.empty_like(x), np.empty_like(x)
    B, C = keys
    gated, keep = gate[0].shape[0] > 0, borders.shape[0] > 0
    for task in range(first, last):
        b, start = task // blocks, (task % blocks) * BLOCK
        width = min(BLOCK, channels - start)
        stop = start + width
        vector_blocks = (padded(vectors[0], start, width), padded(vectors[1], start, width))
        h[:, :width] = initial[b, :, start:stop]
        rate[:, :width] = A2[:, start:stop]
        for t0 in range(0, length, CHUNK):
            size = min(CHUNK, length - t0)
            place = (b, start, width, t0, size)
            if keep:
                borders[b, t0 // CHUNK, :, start:stop] = h[:, :width]
            _prepare(sources, place, vector_blocks, softplus, (x, delta, u, y))
            _advance(B[b, t0 : t0 + size], C[b, t0 : t0 + size], rate, delta, u, h, y)
            if gated:
                _load(gate, place, z)
                for i in range(size):
                    for c in range(BLOCK):
                        y[i, c] *= z[i, c] * sigmoid(z[i, c])
            for i in range(size):
                out_t = out[b, t0 + i, start:stop]
                for c in range(width):
                    out_t[c] = y[i, c]
        last_state[b, :, start:stop] = h[:, :width]
    end_flushing(mode)


@kernel
def _advance(B: Any, C: Any, rate: Any, delta: Any, u: Any, h: Any, y: Any) -> None:
    """Carry the state h (n, channel) through one chunk and add C . h to y (token, channel)."""
    for i in range(B.shape[0]):
        for n in range(rate.shape[0]):
            b_n, c_n = B[i, n], C[i, n]
            for c in range(BLOCK):
                state = _decay(rate[n, c] * delta[i, c]) * h[n, c] + u[i, c] * b_n
                h[n, c] = state
                y[i, c] += c_n * state


@kernel
def _recompute(B: Any, C: Any, rate: Any, delta: Any, u: Any, h: Any, decay: Any, y: Any) -> None:
    """As `_advance`, but keeps every state, h[i + 1] (n, channel) after token i, and decay."""
    for i in range(B.shape[0]):
        for n in range(rate.shape[0]):
            b_n, c_n = B[i, n], C[i, n]
            for c in range(BLOCK):
                a = _decay(rate[n, c] * delta[i, c])
                state = a * h[i, n, c] + u[i, c] * b_n
                decay[i, n, c] = a
                h[i + 1, n, c] = state
                y[i, c] += c_n * state


@kernel
def _ungate(gate: Any, place: Any, z: Any, y: Any, grad_y: Any, grad_z: Any) -> None:
    """Turn grad_y, d target / d (y silu(z)), into d target / d y, and write the gate's gradient."""
    b, start, width, t0, size = place
    _load(gate, place, z)
    for i in range(size):
        for c in range(BLOCK):
            sigma = sigmoid(z[i, c])
            slope = sigma * (_ONE + z[i, c] * (_ONE - sigma))
            outer = grad_y[i, c]
            grad_y[i, c] = outer * (z[i, c] * sigma)
            z[i, c] = outer * y[i, c] * slope
        grad_z_t = grad_z[b, t0 + i, start : start + width]
        for c in range(width):
            grad_z_t[c] = z[i, c]


@reducing
def _reverse(B: Any, C: Any, D: Any, rate: Any, tiles: Any, adjoint: Any, sums: Any) -> None:
    """Carry d target / d state back through one chunk; gradients of its x and Delta.

    With g_t the gradient of state h_t: g_t = C_t grad_y_t + decay_{t+1} g_{t+1}. The gradients
    of x and Delta replace u and x in their tiles; sums: those of B and C over the block's channels.
    """
    x, delta, u, grad_y, h, decay = tiles
    through, along = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    sums_B, sums_C = sums
    for back in range(B.shape[0]):
        i = B.shape[0] - 1 - back
        for c in range(BLOCK):
            through[c] = _ZERO
            along[c] = _ZERO
        for n in range(rate.shape[0]):
            b_n, c_n = B[i, n], C[i, n]
            sum_b, sum_c = _ZERO, _ZERO
            for c in range(BLOCK):
                g = adjoint[n, c] + c_n * grad_y[i, c]
                carried = g * decay[i, n, c]
                through[c] += g * b_n
                along[c] += rate[n, c] * (carried * h[i, n, c])
                sum_b += g * u[i, c]
                sum_c += grad_y[i, c] * h[i + 1, n, c]
                adjoint[n, c] = carried
                # What the gradient of A needs; the decay itself is not read again.
                decay[i, n, c] = carried
            sums_B[i, n] = sum_b
            sums_C[i, n] = sum_c
        for c in range(BLOCK):
            u[i, c] = delta[i, c] * through[c] + D[c] * grad_y[i, c]
            x[i, c] = x[i, c] * through[c] + along[c]


@kernel
def _add_rates_gradient(place: Any, delta: Any, h: Any, carried: Any, grad_A: Any) -> None:
    """Add one chunk's part of the gradient of A, from the `carried` that `_reverse` left."""
    b, start, width, _, size = place
    for i in range(size):
        for n in range(carried.shape[1]):
            grad_A_n = grad_A[b, n, start : start + width]
            for c in range(width):
                grad_A_n[c] += delta[i, c] * carried[i, n, c] * h[i, n, c]


@kernel
def backward(
    first: int,
    last: int,
    sources: Any,
    A: Any,
    A2: Any,
    keys: Any,
    vectors: Any,
    gate: Any,
    softplus: bool,
    borders: Any,
    outer: Any,
    grads: Any,
    parameters: bool,
) -> None:
    """Gradients for tasks `first..last`; states are rebuilt chunk by chunk from `borders`.

    sources, A2, keys, vectors and gate as in `forward`; A (n, d); outer: d target / d out (b, l, d)
    as a source, and d target / d last state (b, n, d). grads: x, dt, z (b, l, d), B, C (blocks, b,
    l, n), A, the initial state (b, n, d), D (b, d); A and D zeroed by the caller, written if
    `parameters`.
    """
    # A target at one position leaves only decaying terms before it, and some processors are far
    # slower on denormals.
    mode = begin_flushing()
    grad_out, grad_last = outer
    grad_x, grad_dt, grad_z, grad_B, grad_C, grad_A, grad_initial, grad_D = grads
    B, C = keys
    length, channels = grad_x.shape[1], grad_x.shape[2]
    states, blocks = A.shape[0], (channels + BLOCK - 1) // BLOCK
    h = np.zeros((CHUNK + 1, states, BLOCK), np.float32)
    decay = np.empty((CHUNK, states, BLOCK), np.float32)
    x = np.empty((CHUNK, BLOCK), np.float32)
    delta, u, y = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    grad_y, z, raw = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    adjoint, rate = np.zeros((states, BLOCK), np.float32), np.zeros((states, BLOCK), np.float32)
    rate2 = np.zeros((states, BLOCK), np.float32)
    for task in range(first, last):
        block = task % blocks
        b, start = task // blocks, block * BLOCK
        width = min(BLOCK, channels - start)
        stop = start + width
        D, bias = padded(vectors[0], start, width), padded(vectors[1], start, width)
        adjoint[:, :width] = grad_last[b, :, start:stop]
        rate[:, :width] = A[:, start:stop]
        rate2[:, :width] = A2[:, start:stop]
        for k in range((length + CHUNK - 1) // CHUNK - 1, -1, -1):
            t0 = k * CHUNK
            size = min(CHUNK, length - t0)
            place = (b, start, width, t0, size)
            keys_B, keys_C = B[b, t0 : t0 + size], C[b, t0 : t0 + size]
            h[0, :, :width] = borders[b, k, :, start:stop]
            _prepare(sources, place, (D, bias), softplus, (x, delta, u, y))
            _recompute(keys_B, keys_C, rate2, delta, u, h, decay, y)
            _load(grad_out, place, grad_y)
            if gate[0].shape[0] > 0:
                _ungate(gate, place, z, y, grad_y, grad_z)
            if parameters:
                for i in range(size):
                    for c in range(width):
                        grad_D[b, start + c] += grad_y[i, c] * x[i, c]
            sums = (grad_B[block, b, t0 : t0 + size], grad_C[block, b, t0 : t0 + size])
            _reverse(keys_B, keys_C, D, rate, (x, delta, u, grad_y, h, decay), adjoint, sums)
            if parameters:
                _add_rates_gradient(place, delta, h, decay, grad_A)
            if softplus:
                _load(sources[1], place, raw)
                for i in range(size):
                    for c in range(BLOCK):
                        x[i, c] *= sigmoid(raw[i, c] + bias[c])
            for i in range(size):
                grad_x_t, grad_dt_t = grad_x[b, t0 + i, start:stop], grad_dt[b, t0 + i, start:stop]
                for c in range(width):
                    grad_x_t[c] = u[i, c]
                    grad_dt_t[c] = x[i, c]
        grad_initial[b, :, start:stop] = adjoint[:, :width]
    end_flushing(mode)
