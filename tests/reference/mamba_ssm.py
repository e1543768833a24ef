"""The slow twin of mamba_ssm's language models: logits from a state dict by its own names.

Source: mamba_ssm (github.com/state-spaces/mamba): `Mamba` and `Mamba2` as their papers define them,
one token after another. Shapes: l tokens, m hidden size, d channels, n states, h heads, p channels
of a head, g groups.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

Weights = Mapping[str, Tensor]


def logits(state: Weights, config: Mapping[str, Any], ids: Tensor) -> Tensor:
    """(l,) token ids to (l, rows) logits, in the state dict's own type."""
    hidden = state["backbone.embedding.weight"][ids]
    layer_config = config["ssm_cfg"]
    mixer = _mamba2 if layer_config.get("layer") == "Mamba2" else _mamba
    for layer in range(config["n_layer"]):
        prefix = f"backbone.layers.{layer}."
        own = {key.removeprefix(prefix): value for key, value in state.items() if prefix in key}
        normed = _norm(hidden, own["norm.weight"])
        weights = {key.removeprefix("mixer."): value for key, value in own.items()}
        hidden = hidden + mixer(weights, layer_config, normed)
    return _norm(hidden, state["backbone.norm_f.weight"]) @ state["lm_head.weight"].T


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def _conv(x: Tensor, weights: Weights) -> Tensor:
    """Causal, one kernel a channel: (l, c) to (l, c)."""
    kernel = weights["conv1d.weight"][:, 0]
    width = kernel.shape[1]
    padded = torch.cat([x.new_zeros(width - 1, x.shape[1]), x])
    rows = [(padded[t : t + width].T * kernel).sum(-1) for t in range(len(x))]
    return silu(torch.stack(rows) + weights["conv1d.bias"])


def _mamba(weights: Weights, config: Mapping[str, Any], u: Tensor) -> Tensor:
    A = -weights["A_log"].exp()
    d, n = A.shape
    x, z = (u @ weights["in_proj.weight"].T).split(d, -1)
    x = _conv(x, weights)
    rank = weights["dt_proj.weight"].shape[1]
    low, B, C = (x @ weights["x_proj.weight"].T).split([rank, n, n], -1)
    delta = softplus(low @ weights["dt_proj.weight"].T + weights["dt_proj.bias"])
    state, rows = x.new_zeros(d, n), []
    for t in range(len(x)):
        state = (delta[t, :, None] * A).exp() * state + (delta[t] * x[t])[:, None] * B[t]
        rows.append(state @ C[t] + weights["D"] * x[t])
    return (torch.stack(rows) * silu(z)) @ weights["out_proj.weight"].T


def _mamba2(weights: Weights, config: Mapping[str, Any], u: Tensor) -> Tensor:
    A = -weights["A_log"].exp()
    h, p, n, g = len(A), config["headdim"], config["d_state"], config["ngroups"]
    d = h * p
    z, xBC, low = (u @ weights["in_proj.weight"].T).split([d, d + 2 * g * n, h], -1)
    x, B, C = _conv(xBC, weights).split([d, g * n, g * n], -1)
    delta = softplus(low + weights["dt_bias"]).clamp(*config["dt_limit"])
    state, rows = x.new_zeros(h, p, n), []
    for t in range(len(x)):
        heads = x[t].view(h, p)
        # A group's B and C serve the heads that follow each other.
        B_t, C_t = (part[t].view(g, n).repeat_interleave(h // g, 0) for part in (B, C))
        new = torch.einsum("h,hp,hn->hpn", delta[t], heads, B_t)
        state = (delta[t] * A).exp()[:, None, None] * state + new
        out = torch.einsum("hpn,hn->hp", state, C_t) + weights["D"][:, None] * heads
        rows.append(out.reshape(d))
    gated = (torch.stack(rows) * silu(z)).view(-1, g, d // g)
    normed = _norm(gated, weights["norm.weight"].view(g, d // g)).flatten(1)
    return normed @ weights["out_proj.weight"].T
