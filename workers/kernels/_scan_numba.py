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

from workers.kernels._simd import (
    FAST_MATH,
    exp2_32,
    exp32,
    flush_denormals,
    restore_denormals,
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

_helper = njit(inline="always", fastmath={"contract"})
# No "reassoc" here: it would cancel the rounding constant inside exp32.
_kernel = njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
# "reassoc" lets the sums over channels vectorise; these loops hold no exponential.
_reducing = njit(nogil=True, cache=True, fastmath=FAST_MATH)


@_helper
def _decay(exponent: Any) -> Any:
    """2**exponent; NaN and overflow pass through (exp2_32 is for exponents in its own range)."""
    return exp2_32(exponent) if exponent < _EXP2_TOP else exponent * _INF


@_helper
def _softplus(v: Any) -> Any:
    """log(1 + e^v) to float32 rounding, also where it is tiny: log1p(w) = 2 atanh(w / (2 + w))."""
    w = exp32(-abs(v))
    s = w / (_TWO + w)
    q = s * s
    tail = _T1 + q * (_T2 + q * (_T3 + q * (_T4 + q * (_T5 + q * (_T6 + q * _T7)))))
    # Written so that a NaN takes the second branch and stays a NaN.
    positive = _ZERO if v < _ZERO else v
    return positive + _TWO * (s + s * (q * tail))


@_helper
def _sigmoid(v: Any) -> Any:
    w = exp32(-abs(v))
    return (_ONE if v >= _ZERO else w) / (_ONE + w)


@_kernel
def _load(source: Any, place: Any, tile: Any) -> None:
    """Transpose one block of one chunk of a (b,d,l) array into `tile` (token, channel).

    A model's arrays come in this layout; a copy of the whole array would cost more than the scan.
    """
    b, start, width, t0, size = place
    rows = source[b, start : start + width, t0 : t0 + size]
    for c in range(width):
        for i in range(size):
            tile[i, c] = rows[c, i]


@_kernel
def forward(
    first: int,
    last: int,
    x: Any,
    dt: Any,
    A2: Any,
    B: Any,
    C: Any,
    D: Any,
    bias: Any,
    gate: Any,
    softplus: bool,
    out: Any,
    borders: Any,
    last_state: Any,
) -> None:
    """Scan tasks `first..last`: out (b,l,d), the state before each chunk, and the last state.

    x, dt (b,d,l); A2 (n,d); B, C (b,l,n); D, bias (d,); gate is z as (memory, text stride, token
    stride), its channels side by side, or empty memory for no gate; borders (b,chunks,n,d) or empty
    when no backward pass follows; last_state (b,n,d).
    """
    mode = flush_denormals()
    z, text_stride, token_stride = gate
    channels, length = x.shape[1], x.shape[2]
    states = A2.shape[0]
    blocks = (channels + BLOCK - 1) // BLOCK
    h = np.empty((states, BLOCK), np.float32)
    rate = np.empty((states, BLOCK), np.float32)
    delta = np.empty(BLOCK, np.float32)
    u = np.empty(BLOCK, np.float32)
    y = np.empty(BLOCK, np.float32)
    x_tile, dt_tile = np.empty((CHUNK, BLOCK), np.float32), np.empty((CHUNK, BLOCK), np.float32)
    gated, keep = z.shape[0] > 0, borders.shape[0] > 0
    for task in range(first, last):
        b, start = task // blocks, (task % blocks) * BLOCK
        stop = min(start + BLOCK, channels)
        width = stop - start
        # Views, so that no index can be negative: the test for it would turn loads into gathers.
        D_c, bias_c, rates = D[start:stop], bias[start:stop], A2[:, start:stop]
        h[:] = _ZERO
        rate[:, :width] = rates
        for t in range(length):
            if t % CHUNK == 0:
                place = (b, start, width, t, min(CHUNK, length - t))
                _load(x, place, x_tile)
                _load(dt, place, dt_tile)
                if keep:
                    borders[b, t // CHUNK, :, start:stop] = h[:, :width]
            x_t, dt_t, out_t = x_tile[t % CHUNK], dt_tile[t % CHUNK], out[b, t, start:stop]
            if softplus:
                for c in range(width):
                    delta[c] = _softplus(dt_t[c] + bias_c[c])
            else:
                for c in range(width):
                    delta[c] = dt_t[c] + bias_c[c]
            for c in range(width):
                u[c] = delta[c] * x_t[c]
                y[c] = D_c[c] * x_t[c]
            for n in range(states):
                b_n, c_n = B[b, t, n], C[b, t, n]
                for c in range(width):
                    state = _decay(rate[n, c] * delta[c]) * h[n, c] + u[c] * b_n
                    h[n, c] = state
                    y[c] += c_n * state
            if gated:
                row = b * text_stride + t * token_stride
                z_t = z[row + start : row + stop]
                for c in range(width):
                    out_t[c] = y[c] * (z_t[c] * _sigmoid(z_t[c]))
            else:
                for c in range(width):
                    out_t[c] = y[c]
        last_state[b, :, start:stop] = h[:, :width]
    restore_denormals(mode)


@_kernel
def _recompute(
    place: Any,
    inputs: Any,
    rate: Any,
    chunk: Any,
    gate: Any,
    grad_out: Any,
    grad_z: Any,
    softplus: bool,
) -> None:
    """Rebuild one chunk's states, decays and steps; undo the gate; write the gate's gradient."""
    b, start, width, t0, size = place
    x, dt, _, B, C, D, bias = inputs
    z, text_stride, token_stride = gate
    h, decay, delta, slope, u, grad_y, y, x_tile, dt_tile = chunk
    _load(x, place, x_tile)
    _load(dt, place, dt_tile)
    stop = start + width
    D_c, bias_c = D[start:stop], bias[start:stop]
    for i in range(size):
        t = t0 + i
        x_t, dt_t, grad_t = x_tile[i], dt_tile[i], grad_out[b, t, start:stop]
        if softplus:
            for c in range(width):
                raw = dt_t[c] + bias_c[c]
                delta[i, c] = _softplus(raw)
                slope[i, c] = _sigmoid(raw)
        else:
            for c in range(width):
                delta[i, c] = dt_t[c] + bias_c[c]
                slope[i, c] = _ONE
        for c in range(width):
            u[i, c] = delta[i, c] * x_t[c]
            y[c] = D_c[c] * x_t[c]
        for n in range(rate.shape[0]):
            b_n, c_n = B[b, t, n], C[b, t, n]
            for c in range(width):
                a = _decay(rate[n, c] * delta[i, c])
                state = a * h[i, n, c] + u[i, c] * b_n
                decay[i, n, c] = a
                h[i + 1, n, c] = state
                y[c] += c_n * state
        if z.shape[0] > 0:
            row = b * text_stride + t * token_stride
            z_t, grad_z_t = z[row + start : row + stop], grad_z[b, t, start:stop]
            for c in range(width):
                sigma = _sigmoid(z_t[c])
                grad_y[i, c] = grad_t[c] * (z_t[c] * sigma)
                grad_z_t[c] = grad_t[c] * y[c] * (sigma * (_ONE + z_t[c] * (_ONE - sigma)))
        else:
            for c in range(width):
                grad_y[i, c] = grad_t[c]


@_reducing
def _reverse(
    place: Any,
    inputs: Any,
    rate: Any,
    chunk: Any,
    adjoint: Any,
    scratch: Any,
    grads: Any,
    parameters: bool,
) -> None:
    """Carry d target / d state back through one chunk and write the gradients of its tokens.

    With g_t the gradient of state h_t: g_t = C_t grad_y_t + decay_{t+1} g_{t+1}.
    """
    b, start, width, t0, size = place
    _, _, _, B, C, D, _ = inputs
    h, decay, delta, slope, u, grad_y, _, x_tile, _ = chunk
    through, along, pull = scratch
    grad_x, grad_dt, grad_B, grad_C, grad_A, grad_D = grads
    block, stop = start // BLOCK, start + width
    D_c, grad_D_c = D[start:stop], grad_D[b, start:stop]
    for back in range(size):
        i = size - 1 - back
        t = t0 + i
        x_t = x_tile[i]
        grad_x_t, grad_dt_t = grad_x[b, t, start:stop], grad_dt[b, t, start:stop]
        for c in range(width):
            through[c] = _ZERO
            along[c] = _ZERO
        for n in range(adjoint.shape[0]):
            b_n, c_n = B[b, t, n], C[b, t, n]
            sum_b, sum_c = _ZERO, _ZERO
            for c in range(width):
                g = adjoint[n, c] + c_n * grad_y[i, c]
                carried = g * decay[i, n, c]
                through[c] += g * b_n
                along[c] += rate[n, c] * (carried * h[i, n, c])
                sum_b += g * u[i, c]
                sum_c += grad_y[i, c] * h[i + 1, n, c]
                pull[c] = carried * h[i, n, c]
                adjoint[n, c] = carried
            grad_B[block, b, t, n] = sum_b
            grad_C[block, b, t, n] = sum_c
            if parameters:
                grad_A_n = grad_A[b, n, start:stop]
                for c in range(width):
                    grad_A_n[c] += delta[i, c] * pull[c]
        for c in range(width):
            grad_x_t[c] = delta[i, c] * through[c] + D_c[c] * grad_y[i, c]
            grad_dt_t[c] = (x_t[c] * through[c] + along[c]) * slope[i, c]
        if parameters:
            for c in range(width):
                grad_D_c[c] += grad_y[i, c] * x_t[c]


@_kernel
def backward(
    first: int,
    last: int,
    inputs: Any,
    A: Any,
    gate: Any,
    softplus: bool,
    borders: Any,
    grad_out: Any,
    grad_last: Any,
    grads: Any,
    grad_z: Any,
    parameters: bool,
) -> None:
    """Gradients for tasks `first..last`; states are rebuilt chunk by chunk from `borders`.

    inputs (x, dt, A2, B, C, D, bias) and gate as in `forward`; A (n,d); grad_out (b,l,d);
    grad_last (b,n,d). grads: x, dt (b,l,d), B, C (blocks,b,l,n), A (b,n,d), D (b,d), the last two
    zeroed by the caller and written only if `parameters`.
    """
    # A target at one position leaves only decaying terms before it, and some processors are far
    # slower on denormals.
    mode = flush_denormals()
    length, channels = grad_out.shape[1], grad_out.shape[2]
    A2, states = inputs[2], A.shape[0]
    blocks = (channels + BLOCK - 1) // BLOCK
    h = np.empty((CHUNK + 1, states, BLOCK), np.float32)
    decay = np.empty((CHUNK, states, BLOCK), np.float32)
    delta = np.empty((CHUNK, BLOCK), np.float32)
    slope = np.empty((CHUNK, BLOCK), np.float32)
    u = np.empty((CHUNK, BLOCK), np.float32)
    grad_y = np.empty((CHUNK, BLOCK), np.float32)
    y = np.empty(BLOCK, np.float32)
    x_tile, dt_tile = np.empty((CHUNK, BLOCK), np.float32), np.empty((CHUNK, BLOCK), np.float32)
    chunk = (h, decay, delta, slope, u, grad_y, y, x_tile, dt_tile)
    adjoint = np.empty((states, BLOCK), np.float32)
    scratch = (
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
    )
    rate, rate2 = np.empty((states, BLOCK), np.float32), np.empty((states, BLOCK), np.float32)
    for task in range(first, last):
        b, start = task // blocks, (task % blocks) * BLOCK
        width = min(BLOCK, channels - start)
        adjoint[:, :width] = grad_last[b, :, start : start + width]
        rate[:, :width] = A[:, start : start + width]
        rate2[:, :width] = A2[:, start : start + width]
        for k in range((length + CHUNK - 1) // CHUNK - 1, -1, -1):
            t0 = k * CHUNK
            size = min(CHUNK, length - t0)
            h[0, :, :width] = borders[b, k, :, start : start + width]
            place = (b, start, width, t0, size)
            _recompute(place, inputs, rate2, chunk, gate, grad_out, grad_z, softplus)
            _reverse(place, inputs, rate, chunk, adjoint, scratch, grads, parameters)
    restore_denormals(mode)
