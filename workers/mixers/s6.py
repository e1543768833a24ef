"""S6, the selective state space of Mamba-1: its trace, hidden attention and exact decomposition.

Axes: t query, s key, k the position between convolution and scan, d channel, n state, m hidden
size, l tokens, j tap of the convolution.

    y[t, d] = sum_{s<=t} alpha[d, t, s] x[s, d] + D[d] x[t, d]
    alpha[d, t, s] = Delta[s, d] sum_n C[t, n] B[s, n] exp(A[d, n] sum_{s<k<=t} Delta[k, d])
    o[t] = W_out (y[t] * silu(z[t])) + b_out

Sources: Gu and Dao, "Mamba" (2312.00752); Ali, Zimerman and Wolf, "The Hidden Attention of Mamba
Models" (2403.01590). Slow twin: tests/reference/s6_mixer.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.names import Mixer
from workers.kernels.hidden_attention import (
    apply_attention,
    attention_matrices,
    attention_moments,
    attention_row,
    weighted_row,
)
from workers.kernels.selective_scan import scan
from workers.mixers.protocol import Capture, Contribution, Weighting
from workers.relative_error import relative_error

# Key positions whose vectors T_t(u_s) are held at once while their norms are taken.
_NORM_ROWS = 1024
_SILU = ("silu", "swish")


@dataclass(frozen=True)
class S6Trace:
    """One S6 mixer on one text, in float32 (see `protocol.MixerTrace`).

    delta, x, conv_input u, conv_output c, gate z: (l, d), with x = silu(c), Delta after softplus
    and z before silu. A (d, n) negative; B, C (l, n); D (d,); conv_weight (d, j), the last tap
    reads the position itself; conv_bias (d,) or None; out_weight (m, d); out_bias (m,) or None;
    output and output_gradient (l, m).
    """

    layer: int
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    x: Tensor
    conv_input: Tensor
    conv_output: Tensor
    conv_weight: Tensor
    conv_bias: Tensor | None
    gate: Tensor
    out_weight: Tensor
    out_bias: Tensor | None
    output: Tensor
    output_gradient: Tensor | None
    family: Mixer = Mixer.S6

    @property
    def length(self) -> int:
        """l, the tokens of the text."""
        return self.x.shape[0]

    @property
    def channels(self) -> int:
        """d, the channels of the mixer (d_inner)."""
        return self.x.shape[1]

    @property
    def values(self) -> Tensor:
        """(l, d): x, what hidden attention reads."""
        return self.x

    def mixed(self, values: Tensor | None = None) -> Tensor:
        """(l, d): sum_s alpha[d, t, s] v[s, d], without D; None means x. One scan: O(l d n)."""
        return scan(self.x if values is None else values, self.delta, self.A, self.B, self.C)

    def matrices(self, weightings: Sequence[Weighting]) -> list[Tensor]:
        """(l, l) each: K[t, s] = mean_d p[t, d] q[s, d] alpha[d, t, s] for every (p, q)."""
        return attention_matrices(self.delta, self.A, self.B, self.C, weightings)

    def row(self, query: int) -> Tensor:
        """(l, d): alpha[d, query, s] at [s, d], zero for s > query. Cost O(l d n)."""
        return attention_row(self.delta, self.A, self.B, self.C, query)

    def weighted_row(self, r: Tensor, p: Tensor | None = None, q: Tensor | None = None) -> Tensor:
        """(l,): r^T K for r (l,), without K. Cost O(l d n)."""
        return weighted_row(self.delta, self.A, self.B, self.C, r, p, q)

    def moments(self, p: Tensor | None = None, q: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and std (d,) of p[t, d] q[s, d] alpha[d, t, s] over all pairs s <= t."""
        return attention_moments(self.delta, self.A, self.B, self.C, p, q)

    def channel_gradient(self) -> Tensor:
        """(l, d): d target / d y = (W_out^T d target / d o) silu(z); ValueError if untraced."""
        return self.gated_gradient() * functional.silu(self.gate)

    def gated_gradient(self) -> Tensor:
        """(l, d): W_out^T d target / d o, the gradient at the neurons; ValueError if untraced."""
        if self.output_gradient is None:
            raise ValueError(f"the gradient at layer {self.layer} was not traced")
        return self.output_gradient @ self.out_weight

    def gated(self) -> Tensor:
        """(l, d): (y' + D x) silu(z), the neurons, which the output projection reads."""
        return self._gate(self.mixed())

    def contribution(self, query: int) -> Contribution:
        """Exact additive decomposition of o[query] over the tokens that the convolution reads.

        T_t(u_s) = W_out [silu(z_t) sum_k (alpha[:, t, k] + D 1[t=k]) sigma(c_k) w_{k-s} u_s],
        with u the convolution's input, c its output, w_{k-s} its weight at lag k - s and sigma the
        logistic function: x = silu(c) = c sigma(c), and c is linear in u. Summed over s, and with
        what the biases of convolution and output projection add, it is o[query] to rounding.

        Source: the unified implicit attention of Zimerman, Ali and Wolf (2405.16504), made exact.
        Cost: O(l d n) for the row, O(l d m) for the norms; memory O(l d).
        """
        through = self._through(query)
        gate = functional.silu(self.gate[query])
        # (query + 1, d): what each token adds to the neurons at the query.
        reads = self._conv_transpose(through) * self.conv_input[: query + 1] * gate
        norm = self.x.new_zeros(self.length)
        for start in range(0, query + 1, _NORM_ROWS):
            rows = reads[start : start + _NORM_ROWS]
            norm[start : start + len(rows)] = (rows @ self.out_weight.T).norm(dim=1)
        bias = self._bias(through.sum(0) * gate)
        total = reads.sum(0) @ self.out_weight.T + bias
        error = self._relative(total - self.output[query])
        if self.output_gradient is None:
            return Contribution(norm, None, None, error)
        signed = torch.zeros_like(norm)
        signed[: query + 1] = reads @ (self.output_gradient[query] @ self.out_weight)
        return Contribution(norm, signed, float(bias @ self.output_gradient[query]), error)

    def rebuild(self) -> Tensor:
        """(l, m): the output from alpha itself: D, gate and output projection around alpha x."""
        mixed = apply_attention(self.delta, self.A, self.B, self.C, self.x)
        return functional.linear(self._gate(mixed), self.out_weight, self.out_bias)

    def reconstruction_error(self) -> float:
        """max|rebuilt - output| / max|output|; infinity where that is not a number."""
        return self._relative(self.rebuild() - self.output)

    def _relative(self, difference: Tensor) -> float:
        """max|difference| / max|o|."""
        return relative_error(float(difference.abs().max()), float(self.output.abs().max()))

    def _gate(self, mixed: Tensor) -> Tensor:
        return (mixed + self.D * self.x) * functional.silu(self.gate)

    def _through(self, query: int) -> Tensor:
        """(query + 1, d): (alpha[d, query, k] + D[d] 1[k=query]) sigma(c[k, d])."""
        weight = self.row(query)[: query + 1]
        weight[query] += self.D
        return weight * torch.sigmoid(self.conv_output[: query + 1])

    def _conv_transpose(self, through: Tensor) -> Tensor:
        """(rows, d): sum_k through[k, d] w[d, k - s] at [s, d], the convolution read backwards."""
        rows, taps = through.shape[0], self.conv_weight.shape[1]
        total = torch.zeros_like(through)
        for lag in range(min(taps, rows)):
            total[: rows - lag] += through[lag:] * self.conv_weight[:, taps - 1 - lag]
        return total

    def _bias(self, gain: Tensor) -> Tensor:
        """(m,): what the convolution's bias, passed on with `gain` (d,), and b_out add."""
        conv = torch.zeros_like(gain) if self.conv_bias is None else gain * self.conv_bias
        return functional.linear(conv, self.out_weight, self.out_bias)


class MambaAdapter:
    """Traces transformers' `MambaMixer`; holds every name of that module.

    Only the mixer's own input and weights are read: inside it, the convolution and the step
    projection are called as functions, so hooks on them never fire.
    """

    def layer(self, module: nn.Module) -> int:
        """Index of the layer the mixer belongs to."""
        return int(module.layer_idx)  # type: ignore[arg-type]

    def objection(self, module: nn.Module) -> str | None:
        """Any activation but SiLU: the decomposition and the kernels are for SiLU only."""
        if module.activation in _SILU:
            return None
        return f"layer {self.layer(module)} has hidden_act {module.activation!r}; S6 needs 'silu'"

    def hidden(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The input (b, l, m), which the block passes by position."""
        hidden: Tensor = args[0]
        return hidden

    def trace(self, module: nn.Module, capture: Capture) -> S6Trace:
        """Recompute u, c, x, z, Delta, B and C from the mixer's input (l, m) and its weights.

        Cost: the mixer's projections once, O(l d m); memory O(l d).
        """
        weights = {name: value.detach().float() for name, value in module.named_parameters()}
        with torch.no_grad():
            hidden = capture.hidden.detach().float()
            projected = functional.linear(
                hidden, weights["in_proj.weight"], weights.get("in_proj.bias")
            )
            u, gate = projected.chunk(2, dim=1)
            kernel = weights["conv1d.weight"].squeeze(1)
            conv = _causal_convolution(u, kernel, weights.get("conv1d.bias"))
            x = functional.silu(conv)
            rank, states = weights["dt_proj.weight"].shape[1], weights["A_log"].shape[1]
            selected = functional.linear(x, weights["x_proj.weight"])
            step, B, C = torch.split(selected, [rank, states, states], dim=1)
            step = functional.linear(step, weights["dt_proj.weight"], weights["dt_proj.bias"])
            gradient = capture.output_gradient
            return S6Trace(
                layer=capture.layer,
                delta=functional.softplus(step),
                A=-torch.exp(weights["A_log"]),
                B=B,
                C=C,
                D=weights["D"],
                x=x,
                conv_input=u,
                conv_output=conv,
                conv_weight=kernel,
                conv_bias=weights.get("conv1d.bias"),
                gate=gate,
                out_weight=weights["out_proj.weight"],
                out_bias=weights.get("out_proj.bias"),
                output=capture.output.detach().float(),
                output_gradient=None if gradient is None else gradient.detach().float(),
            )


def _causal_convolution(u: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """(l, d): c[t, d] = sum_j kernel[d, j] u[t - J + 1 + j, d] + bias[d], zeros before the text."""
    taps = kernel.shape[1]
    padded = functional.pad(u.T[None], (taps - 1, 0))
    return functional.conv1d(padded, kernel[:, None], bias, groups=kernel.shape[0])[0].T
