"""Slow float64 twin of an SSD mixer with alpha an explicit tensor, so that autograd passes it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.reference import ssd


@dataclass(frozen=True)
class ExplicitRun:
    """One mixer on one text, all float64: alpha (h, t, s), x, u, c and z (l, d), output (l, m)."""

    alpha: Tensor
    x: Tensor
    conv_input: Tensor
    conv_output: Tensor
    gate: Tensor
    weights: dict[str, Tensor]
    norm_groups: int
    eps: float

    @property
    def wide_alpha(self) -> Tensor:
        """(d, t, s)."""
        return self._wide(self.alpha)

    def _wide(self, alpha: Tensor) -> Tensor:
        return alpha.repeat_interleave(self.x.shape[1] // len(alpha), 0)

    def neurons(self, wide_alpha: Tensor) -> Tensor:
        """(l, d) of alpha (d, t, s), which may carry a graph."""
        skip = self.weights["D"].repeat_interleave(self.x.shape[1] // len(self.weights["D"]))
        y = torch.einsum("dts,sd->td", wide_alpha, self.x) + skip * self.x
        gated = (y * torch.nn.functional.silu(self.gate)).view(len(y), self.norm_groups, -1)
        scale = (gated.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return (gated * scale).reshape(y.shape) * self.weights["norm.weight"]

    def project(self, neurons: Tensor) -> Tensor:
        """(l, m)."""
        found = neurons @ self.weights["out_proj.weight"].T
        return found + self.weights.get("out_proj.bias", torch.zeros(()))

    def contributions(self, query: int) -> tuple[Tensor, Tensor]:
        """T_query(u_s) (l, m), tap by tap, and what the biases add (m,)."""
        d = self.x.shape[1]
        wide = self.wide_alpha
        skip = self.weights["D"].repeat_interleave(d // len(self.weights["D"]))
        y = torch.einsum("dts,sd->td", wide, self.x) + skip * self.x
        gain = self.neurons(wide)[query] / y[query]
        kernel = self.weights["conv1d.weight"][:d, 0]
        bias = self.weights.get("conv1d.bias", torch.zeros(len(self.weights["conv1d.weight"])))[:d]
        reads, biases = torch.zeros_like(self.x), torch.zeros(d).double()
        for k in range(query + 1):
            weight = wide[:, query, k] + (skip if k == query else 0)
            through = weight * torch.sigmoid(self.conv_output[k]) * gain
            biases += through * bias
            for lag in range(min(kernel.shape[1], k + 1)):
                reads[k - lag] += (
                    through * kernel[:, kernel.shape[1] - 1 - lag] * self.conv_input[k - lag]
                )
        return reads @ self.weights["out_proj.weight"].T, self.project(biases)


def run_explicit(mixer: Any, hidden: Tensor) -> ExplicitRun:
    """Run a `Mamba2Mixer` by its definition (2405.21060), token by token; hidden (l, m)."""
    weights = {name: value.detach().double() for name, value in mixer.named_parameters()}
    heads, groups, n = mixer.num_heads, mixer.n_groups, mixer.ssm_state_size
    d, length = weights["out_proj.weight"].shape[1], len(hidden)
    projected = hidden.double() @ weights["in_proj.weight"].T
    projected = projected + weights.get("in_proj.bias", torch.zeros(()))
    gate, u, step = projected.split([d, d + 2 * groups * n, heads], dim=1)
    kernel = weights["conv1d.weight"][:, 0]
    conv = torch.zeros_like(u) + weights.get("conv1d.bias", torch.zeros(()))
    for t in range(length):
        for lag in range(min(kernel.shape[1], t + 1)):
            conv[t] += kernel[:, kernel.shape[1] - 1 - lag] * u[t - lag]
    x, B, C = torch.nn.functional.silu(conv).split([d, groups * n, groups * n], dim=1)
    delta = torch.log1p(torch.exp(step + weights["dt_bias"])).clamp(*mixer.time_step_limit)
    arrays = (
        delta.numpy(),
        -torch.exp(weights["A_log"]).numpy(),
        B.reshape(length, groups, n).numpy(),
        C.reshape(length, groups, n).numpy(),
    )
    return ExplicitRun(
        alpha=torch.from_numpy(ssd.alpha(*arrays)),
        x=x,
        conv_input=u[:, :d],
        conv_output=conv[:, :d],
        gate=gate,
        weights=weights,
        norm_groups=d // mixer.norm.group_size,
        eps=mixer.norm.variance_epsilon,
    )
