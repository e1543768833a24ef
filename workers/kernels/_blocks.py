"""The smallest pieces of the hidden-attention product: leaves of four tokens, panels of four.

Written in lanes along the joint index (channels within states), except for a panel's packed keys,
whose lanes are tokens. Arrays are contiguous and indexed as if flat.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit

from workers.kernels._lanes import LANES, exp_lanes, load, splat, spread, store, total, transpose
from workers.kernels._tile import PANEL

LEAF = 4

_ZERO = np.float32(0.0)


class Inputs(NamedTuple):
    """What a matrix is made of: rows are padded with zeros to panels, channels to chunks.

    delta (l, d), A (n, d), B and C (l, n); p and w = q delta (l, weightings, d).
    """

    delta: Any
    A: Any
    B: Any
    C: Any
    p: Any
    w: Any


class Window(NamedTuple):
    """A chunk of the joint index: `width` channels from `channel` on, within `states` states.

    Column `i * width + k` is channel `channel + k` of state `state + i`.
    """

    channel: int
    width: int
    state: int
    states: int


class Scratch(NamedTuple):
    """One panel while it is built; every array is (rows, columns).

    decays and keys: a row a token. exponents: a row a leaf; since and through: the decays from the
    panel's start to a leaf's, and through the leaf.
    """

    decays: Any
    keys: Any
    exponents: Any
    since: Any
    through: Any


def new_scratch(columns: int, threads: int) -> Scratch:
    """Scratch for chunks of so many columns; the first axis is the thread."""
    tokens = torch.empty(2, threads, PANEL, columns).numpy()
    return Scratch(*tokens, *torch.empty(3, threads, PANEL // LEAF, columns).numpy())


@njit(nogil=True, cache=True)
def decay_panel(
    inputs: Any, window: Any, tokens: Any, scratch: Any, exponents: Any, place: int
) -> None:
    """Everything about a panel that no weighting changes: decays and exponents.

    tokens: the first and the end. Written: decays, exponents, since and through of `scratch`; the
    panel's total exponent at flat index `place` of `exponents`.
    """
    columns = window.width * window.states
    leaves = PANEL // LEAF
    for state in range(window.states):
        for leaf in range(leaves):
            if tokens[0] + leaf * LEAF < tokens[1]:
                _decay_leaf(inputs, window, tokens[0], state, leaf, scratch)
            else:
                for k in range(state * window.width, (state + 1) * window.width, LANES):
                    store(scratch.exponents, leaf * columns + k, splat(_ZERO))
    for k in range(0, columns, LANES):
        e0, e1 = load(scratch.exponents, k), load(scratch.exponents, columns + k)
        e2, e3 = load(scratch.exponents, 2 * columns + k), load(scratch.exponents, 3 * columns + k)
        store(scratch.since, columns + k, exp_lanes(e0))
        store(scratch.since, 2 * columns + k, exp_lanes(e0 + e1))
        store(scratch.since, 3 * columns + k, exp_lanes((e0 + e1) + e2))
        store(scratch.through, columns + k, exp_lanes(e1))
        store(scratch.through, 2 * columns + k, exp_lanes(e2))
        store(scratch.through, 3 * columns + k, exp_lanes(e3))
        store(exponents, place + k, (e0 + e1) + (e2 + e3))


@njit(nogil=True, cache=True)
def _decay_leaf(inputs: Any, window: Any, first: int, state: int, leaf: int, scratch: Any) -> None:
    """Decays of a leaf's tokens, and its total exponent, for one state of the chunk."""
    stride, columns = inputs.delta.shape[1], window.width * window.states
    rate = (window.state + state) * stride + window.channel
    step = (first + leaf * LEAF) * stride + window.channel
    row = leaf * LEAF * columns + state * window.width
    for k in range(0, window.width, LANES):
        a = load(inputs.A, rate + k)
        x0, x1 = load(inputs.delta, step + k), load(inputs.delta, step + stride + k)
        x2 = load(inputs.delta, step + 2 * stride + k)
        x3 = load(inputs.delta, step + 3 * stride + k)
        store(scratch.decays, row + k, exp_lanes(a * x0))
        store(scratch.decays, row + columns + k, exp_lanes(a * x1))
        store(scratch.decays, row + 2 * columns + k, exp_lanes(a * x2))
        store(scratch.decays, row + 3 * columns + k, exp_lanes(a * x3))
        place = leaf * columns + state * window.width + k
        store(scratch.exponents, place, a * ((x0 + x1) + (x2 + x3)))


@njit(nogil=True, cache=True)
def build_panel(
    inputs: Any, window: Any, tokens: Any, weighting: int, scratch: Any, left: Any, out: Any
) -> None:
    """Factors and diagonal block of a panel under one weighting, its decays being in `scratch`.

    Written: rows of left (l, columns), decayed from the panel's start, and the scratch's keys,
    decayed to its end. Added to: out (l, l).
    """
    columns = window.width * window.states
    for leaf in range(PANEL // LEAF):
        t = tokens[0] + leaf * LEAF
        if t >= tokens[1]:
            for k in range(leaf * LEAF * columns, (leaf + 1) * LEAF * columns, LANES):
                store(scratch.keys, k, splat(_ZERO))
            continue
        for state in range(window.states):
            _leaf(inputs, window, tokens[0], (weighting, state, leaf), scratch, left, out)
        for key in range(0, leaf * LEAF, 2):
            _read_pair(left, scratch.keys, out, t, (tokens[0], key), columns)
        if leaf > 0:
            for row in range(leaf * LEAF):
                _scale(scratch.keys, row * columns, scratch.through, leaf * columns, columns)
            for row in range(t, t + LEAF):
                _scale(left, row * columns, scratch.since, leaf * columns, columns)


@njit(nogil=True, cache=True)
def _leaf(
    inputs: Any, window: Any, first: int, which: Any, scratch: Any, left: Any, out: Any
) -> None:
    """Queries decayed from the leaf's start, keys to its end, and the pairs inside it."""
    weighting, state, leaf = which
    stride, columns = inputs.delta.shape[1], window.width * window.states
    t, n = first + leaf * LEAF, window.state + state
    c0, c1, c2, c3 = inputs.C[t, n], inputs.C[t + 1, n], inputs.C[t + 2, n], inputs.C[t + 3, n]
    b0, b1, b2, b3 = inputs.B[t, n], inputs.B[t + 1, n], inputs.B[t + 2, n], inputs.B[t + 3, n]
    weightings = inputs.p.shape[1]
    source = (t * weightings + weighting) * stride + window.channel
    stride = weightings * stride
    own = leaf * LEAF * columns + state * window.width
    query = t * columns + state * window.width
    x00 = x10 = x11 = x20 = x21 = x22 = x30 = x31 = x32 = x33 = splat(_ZERO)
    for k in range(0, window.width, LANES):
        at, to = own + k, query + k
        decay = load(scratch.decays, at)
        q = c0 * load(inputs.p, source + k)
        r0 = b0 * load(inputs.w, source + k)
        x00 += q * r0
        store(left, to, q * decay)

        a = load(scratch.decays, at + columns)
        decay = decay * a
        q = c1 * load(inputs.p, source + stride + k)
        r0 = r0 * a
        r1 = b1 * load(inputs.w, source + stride + k)
        x10 += q * r0
        x11 += q * r1
        store(left, to + columns, q * decay)

        a = load(scratch.decays, at + 2 * columns)
        decay = decay * a
        q = c2 * load(inputs.p, source + 2 * stride + k)
        r0, r1 = r0 * a, r1 * a
        r2 = b2 * load(inputs.w, source + 2 * stride + k)
        x20 += q * r0
        x21 += q * r1
        x22 += q * r2
        store(left, to + 2 * columns, q * decay)

        a = load(scratch.decays, at + 3 * columns)
        q = c3 * load(inputs.p, source + 3 * stride + k)
        r0, r1, r2 = r0 * a, r1 * a, r2 * a
        r3 = b3 * load(inputs.w, source + 3 * stride + k)
        x30 += q * r0
        x31 += q * r1
        x32 += q * r2
        x33 += q * r3
        store(left, to + 3 * columns, q * (decay * a))
        store(scratch.keys, at, r0)
        store(scratch.keys, at + columns, r1)
        store(scratch.keys, at + 2 * columns, r2)
        store(scratch.keys, at + 3 * columns, r3)
    out[t, t] += total(x00)
    out[t + 1, t] += total(x10)
    out[t + 1, t + 1] += total(x11)
    out[t + 2, t] += total(x20)
    out[t + 2, t + 1] += total(x21)
    out[t + 2, t + 2] += total(x22)
    out[t + 3, t] += total(x30)
    out[t + 3, t + 1] += total(x31)
    out[t + 3, t + 2] += total(x32)
    out[t + 3, t + 3] += total(x33)


@njit(nogil=True, cache=True)
def _read_pair(left: Any, keys: Any, out: Any, t: int, key: Any, columns: int) -> None:
    """Four queries from t on times two keys of one panel, neither packed."""
    first, row = key
    query, own = t * columns, row * columns
    x00 = x01 = x10 = x11 = x20 = x21 = x30 = x31 = splat(_ZERO)
    for k in range(0, columns, LANES):
        r0, r1 = load(keys, own + k), load(keys, own + columns + k)
        q = load(left, query + k)
        x00 += q * r0
        x01 += q * r1
        q = load(left, query + columns + k)
        x10 += q * r0
        x11 += q * r1
        q = load(left, query + 2 * columns + k)
        x20 += q * r0
        x21 += q * r1
        q = load(left, query + 3 * columns + k)
        x30 += q * r0
        x31 += q * r1
    s = first + row
    out[t, s] += total(x00)
    out[t, s + 1] += total(x01)
    out[t + 1, s] += total(x10)
    out[t + 1, s + 1] += total(x11)
    out[t + 2, s] += total(x20)
    out[t + 2, s + 1] += total(x21)
    out[t + 3, s] += total(x30)
    out[t + 3, s + 1] += total(x31)


@njit(nogil=True, cache=True)
def _scale(rows: Any, row: int, decays: Any, decay: int, columns: int) -> None:
    for k in range(0, columns, LANES):
        store(rows, row + k, load(rows, row + k) * load(decays, decay + k))


@njit(nogil=True, cache=True)
def pack_keys(keys: Any, right: Any, panel: int, columns: int) -> None:
    """Write a panel's keys (tokens, columns) as (columns, tokens) into right."""
    place = panel * PANEL * columns
    for k in range(0, columns, LANES):
        for row in range(0, PANEL, LANES):
            target = place + k * PANEL + row
            transpose(keys, row * columns + k, columns, right, target, PANEL)


@njit(nogil=True, cache=True)
def scale_queries(left: Any, panel: int, decay: Any, columns: int) -> None:
    """Multiply a panel's queries by the decay of each column."""
    for t in range(panel * PANEL, (panel + 1) * PANEL):
        _scale(left, t * columns, decay, 0, columns)


@njit(nogil=True, cache=True)
def scale_keys(right: Any, panel: int, decay: Any, columns: int) -> None:
    """Multiply a panel's packed keys by the decay of each column."""
    place = panel * PANEL * columns
    for k in range(columns):
        a = spread(decay, k)
        for s in range(place + k * PANEL, place + (k + 1) * PANEL, LANES):
            store(right, s, load(right, s) * a)
