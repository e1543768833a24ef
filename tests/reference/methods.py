"""Slow float64 twins of the methods, read off their definitions from explicit alpha[d,t,s].

Axes: t query, s key, d channel, m hidden size, l tokens; tau the target's position. Loops where the
definition has a sum over pairs; nothing here is shared with `workers.analyses`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TwinMaps:
    """matrix (rows, l), token_relevance (l,), signed_relevance (l,) or None, neurons (d,).

    `spread_over`: root mean square of the numbers whose std neuron_importance is, where it is one.
    """

    matrix: Array
    token_relevance: Array
    signed_relevance: Array | None
    neuron_activation: Array
    neuron_importance: Array
    spread_over: float = 0.0


def mixed(alpha: Array, x: Array) -> Array:
    """(l, d): y'[t,d] = sum_s alpha[d,t,s] x[s,d]."""
    out = np.zeros_like(x)
    for t in range(len(x)):
        for s in range(t + 1):
            out[t] += alpha[:, t, s] * x[s]
    return out


def causal_spread(weights: Array) -> tuple[Array, float]:
    """(d,): population std of weights[d,t,s] over the pairs s <= t; the largest rms."""
    length = weights.shape[1]
    pairs = np.array([weights[:, t, s] for t in range(length) for s in range(t + 1)])
    return np.std(pairs, axis=0), float(np.sqrt((pairs**2).mean(axis=0)).max())


def attention_weighted(alpha: Array, x: Array, tau: int) -> TwinMaps:
    """Abar = mean_d alpha and its row tau."""
    mean = alpha.mean(axis=0)
    return TwinMaps(mean, mean[tau], None, mixed(alpha, x).mean(axis=0), *causal_spread(alpha))


def gradient_guided(alpha: Array, x: Array, gradient: Array) -> TwinMaps:
    """Gradient times attention: gradient[t,d] x[s,d] alpha[d,t,s], mean over channels."""
    weighted = np.zeros_like(alpha)
    for t in range(len(x)):
        for s in range(t + 1):
            weighted[:, t, s] = gradient[t] * x[s] * alpha[:, t, s]
    matrix = weighted.mean(axis=0)
    pulled = (gradient * mixed(alpha, x)).sum(axis=0)
    return TwinMaps(matrix, matrix.sum(axis=0), None, pulled, *causal_spread(weighted))


def rollout(alphas: list[Array], x: Array, tau: int, clamp: bool = True) -> TwinMaps:
    """R_l over the mixer layers 0..l, `alphas` in that order; x belongs to the last."""
    length = len(x)
    rolled = np.eye(length)
    for alpha in alphas:
        hat = alpha.mean(axis=0)
        if clamp:
            hat = np.where(hat > 0, hat, 0.0)
        hat = hat + np.eye(length)
        for t in range(length):
            hat[t] = hat[t] / hat[t].sum()
        rolled = hat @ rolled
    carried = np.array([sum(rolled[t, s] * x[s] for s in range(length)) for t in range(length)])
    return TwinMaps(rolled, rolled[tau], None, carried.mean(axis=0), carried.std(axis=0))


def contribution(
    vectors: Array, gradient: Array, out_weight: Array, gated: Array, tau: int
) -> TwinMaps:
    """From T_t(u_s) itself: vectors (l, l, m); gradient (l, m) = d target / d o; gated (l, d)."""
    norms = np.sqrt((vectors**2).sum(axis=2))
    signed = np.array([vectors[tau, s] @ gradient[tau] for s in range(len(vectors))])
    effect = (out_weight.T @ gradient[tau]) * gated[tau]
    return TwinMaps(norms, norms[tau], signed, effect, np.abs(effect))


def knowledge(matrix: Array, queries: list[int], places: list[float]) -> dict[str, float]:
    """`attention_knowledge_extraction`, one row after the other."""
    rows: list[tuple[float, ...]] = []
    entries: list[float] = []
    for row, t in zip(matrix, queries, strict=True):
        keys = row[: t + 1]
        entries.extend(keys)
        total = np.abs(keys).sum()
        if total == 0 or np.abs(keys).max() < 2.0**-23 * np.abs(matrix).max():
            continue
        w = np.abs(keys) / total
        entropy = -sum(v * np.log(v) for v in w if v > 0)
        share = entropy / np.log(t + 1) if t > 0 else 0.0
        distance = sum(w[s] * (t - s) for s in range(t + 1))
        characters = sum(w[s] * (places[t] - places[s]) for s in range(t + 1))
        measures = (entropy, share, float(np.std(w)), np.exp(entropy), w[0], distance, characters)
        rows.append(measures)
    means = np.mean(rows, axis=0) if rows else np.zeros(7)
    return {
        "attention_entropy": means[0],
        "attention_entropy_normalised": means[1],
        "attention_diversity": means[2],
        "mean_attention": float(np.mean(entries)),
        "max_attention": max(entries),
        "min_attention": min(entries),
        "effective_keys": means[3],
        "first_token_mass": means[4],
        "mean_distance": means[5],
        "mean_distance_characters": means[6],
    }
