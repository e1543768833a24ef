"""Numba loops of the causal convolution with SiLU, forward and backward.

Layout as in `_scan_numba`: tokens outside, channels inside, a task is one (text, channel block)
pair. A chunk's rows stay in the L1 cache while the taps pass over them.
"""

from typing import Any

import numpy as np

from workers.kernels._flushing import begin_flushing, end_flushing
from workers.kernels._scan_numba import BLOCK, CHUNK, kernel, padded, sigmoid

_ONE = np.float32(1.0)


@kernel
def _window(rows: Any, initial: Any, place: Any, tile: Any) -> None:
    """Copy `count` rows of u from token t0 on into `tile`; those before the text from `initial`."""
    memory, text, token = rows
    b, start, width, t0, count = place
    for i in range(count):
        t = t0 + i
        if t < 0:
            row = initial[b, initial.shape[1] + t, start : start + width]
        else:
            origin = b * text + t * token + start
            row = memory[origin : origin + width]
        for c in range(width):
            tile[i, c] = row[c]


@kernel
def _convolve(tile: Any, taps: Any, bias: Any, out: Any, count: int) -> None:
    """out[i] = bias + sum_j taps[j] tile[i + j], all (row, channel)."""
    for i in range(count):
        for c in range(BLOCK):
            out[i, c] = bias[c]
        for j in range(taps.shape[0]):
            for c in range(BLOCK):
                out[i, c] += taps[j, c] * tile[i + j, c]


@kernel
def _block_of(weight: Any, start: int, width: int) -> Any:
    """One block of channels of (j, d), zeros past the last channel."""
    taps = np.zeros((weight.shape[0], BLOCK), np.float32)
    taps[:, :width] = weight[:, start : start + width]
    return taps


@kernel
def forward(
    first: int, last: int, rows: Any, initial: Any, weight: Any, bias: Any, out: Any
) -> None:
    """silu of the convolution for tasks `first..last`: out (b, l, d).

    rows: u (b, l, d) as (memory, text stride, token stride), its channels side by side; initial
    (b,j-1,d), the rows before the first token; weight (j,d), its last row for the token itself;
    bias (d,).
    """
    mode = begin_flushing()
    length, channels = out.shape[1], out.shape[2]
    blocks, before = (channels + BLOCK - 1) // BLOCK, weight.shape[0] - 1
    tile = np.zeros((CHUNK + before, BLOCK), np.float32)
    conv = np.empty((CHUNK, BLOCK), np.float32)
    for task in range(first, last):
        b, start = task // blocks, (task % blocks) * BLOCK
        width = min(BLOCK, channels - start)
        taps, bias_block = _block_of(weight, start, width), padded(bias, start, width)
        for t0 in range(0, length, CHUNK):
            size = min(CHUNK, length - t0)
            _window(rows, initial, (b, start, width, t0 - before, size + before), tile)
            _convolve(tile, taps, bias_block, conv, size)
            for i in range(size):
                for c in range(BLOCK):
                    conv[i, c] *= sigmoid(conv[i, c])
                out_t = out[b, t0 + i, start : start + width]
                for c in range(width):
                    out_t[c] = conv[i, c]
    end_flushing(mode)


@kernel
def backward(
    first: int,
    last: int,
    rows: Any,
    initial: Any,
    weight: Any,
    bias: Any,
    grad_out: Any,
    grad_rows: Any,
) -> None:
    """d target / d u for tasks `first..last`, from d target / d out (rows, as u in `forward`).

    grad_rows (b,j-1+l,d): the gradients of `initial` and of u, in the order of their tokens.
    """
    mode = begin_flushing()
    before = weight.shape[0] - 1
    total, channels = grad_rows.shape[1], grad_rows.shape[2]
    length, blocks = total - before, (channels + BLOCK - 1) // BLOCK
    tile = np.zeros((CHUNK + 2 * before, BLOCK), np.float32)
    conv = np.zeros((CHUNK + before, BLOCK), np.float32)
    grad = np.zeros((CHUNK + before, BLOCK), np.float32)
    found = np.empty(BLOCK, np.float32)
    for task in range(first, last):
        b, start = task // blocks, (task % blocks) * BLOCK
        width = min(BLOCK, channels - start)
        taps, bias_block = _block_of(weight, start, width), padded(bias, start, width)
        # A row r of grad_rows is token r - before, which outputs r - before .. r read.
        for r0 in range(0, total, CHUNK):
            size = min(CHUNK, total - r0)
            low, high = max(0, r0 - before), min(length, r0 + size)
            count = high - low
            _window(rows, initial, (b, start, width, low - before, count + before), tile)
            _window(grad_out, initial, (b, start, width, low, count), grad)
            _convolve(tile, taps, bias_block, conv, count)
            for i in range(count):
                for c in range(BLOCK):
                    sigma = sigmoid(conv[i, c])
                    grad[i, c] *= sigma * (_ONE + conv[i, c] * (_ONE - sigma))
            for r in range(r0, r0 + size):
                for c in range(BLOCK):
                    found[c] = 0
                for t in range(max(low, r - before), min(high, r + 1)):
                    for c in range(BLOCK):
                        found[c] += taps[r - t, c] * grad[t - low, c]
                grad_r = grad_rows[b, r, start : start + width]
                for c in range(width):
                    grad_r[c] = found[c]
    end_flushing(mode)
