"""The default job as a script of public parts: transformers, torch, matplotlib's pyplot.

transformers' own scan runs the model; hooks and autograd find the gradients; the hidden attention
is computed by the vectorised per-channel way, from its published formula, for every layer that the
rollout multiplies; the figures are those of the service: a 2x2 sheet for each method and layer,
coloured tokens for each layer, an overview for each method. Left out, to the script's advantage:
knowledge extraction, the JSON document, self-checks, and all that a service does around a job.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import functional
from transformers import MambaForCausalLM

from benchmarks.peers.attention import channel_attention

# As many words as the service's own strip of tokens draws.
_MOST_WORDS = 264

METHODS = ("attention_weighted", "gradient_guided", "rollout")


@dataclass(frozen=True)
class Reading:
    """One layer under one method: matrix (l, l), relevance (l,), neurons (d,)."""

    matrix: Tensor
    token_relevance: Tensor
    neuron_activation: Tensor
    neuron_importance: Tensor


@dataclass(frozen=True)
class Job:
    """What is asked for. channels: how many of each layer's to run, None for all."""

    tokens: Sequence[str]
    ids: Sequence[int]
    layers: Sequence[int]
    channels: int | None = None


@dataclass
class Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


Readings = dict[tuple[int, str], Reading]


def analyse(model: MambaForCausalLM, job: Job, clock: Clock) -> Readings:
    """Readings by layer and method. Matrices are means over the channels that were run."""
    with clock.time("pass"):
        hidden, gradients = _pass(model, job)
    found: Readings = {}
    rolled = torch.eye(len(job.ids))
    for layer in range(max(job.layers) + 1):
        scan = _Scan.of(model.backbone.layers[layer].mixer, hidden[layer], gradients.get(layer))
        with clock.time("attention"):
            weighted, guided = _by_channel(scan, job.channels)
        with clock.time("rollout"):
            hat = weighted.matrix.clamp(min=0) + torch.eye(len(job.ids))
            rolled = (hat / hat.sum(1, keepdim=True)) @ rolled
        if layer in job.layers:
            carried = rolled @ scan.x
            activation, importance = carried.mean(0), carried.std(0, correction=0)
            found[layer, "attention_weighted"] = weighted
            found[layer, "gradient_guided"] = guided
            found[layer, "rollout"] = Reading(rolled, rolled[-1], activation, importance)
    return found


def _pass(model: MambaForCausalLM, job: Job) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Every mixer's input (l, m), and d (top logit) / d (mixer output) of the listed layers."""
    hidden: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}

    def keep(mixer: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        hidden[mixer.layer_idx] = args[0][0].detach()
        outputs[mixer.layer_idx] = output

    hooks = [block.mixer.register_forward_hook(keep) for block in model.backbone.layers]
    embeddings = model.get_input_embeddings()(torch.tensor([job.ids])).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=1).logits[0, -1]
    for hook in hooks:
        hook.remove()
    found = torch.autograd.grad(logits.max(), [outputs[layer] for layer in job.layers])
    return hidden, {layer: grad[0] for layer, grad in zip(job.layers, found, strict=True)}


@dataclass(frozen=True)
class _Scan:
    """One layer's scan: system as in `peers.attention`, x and g = d target / d y, both (l, d)."""

    system: tuple[Tensor, Tensor, Tensor, Tensor]
    x: Tensor
    gradient: Tensor | None

    @classmethod
    @torch.no_grad()
    def of(cls, mixer: Any, hidden: Tensor, output_gradient: Tensor | None) -> "_Scan":
        u, z = mixer.in_proj(hidden).chunk(2, dim=-1)
        x = functional.silu(mixer.conv1d(u.T[None])[0, :, : len(hidden)].T)
        rank, states = mixer.dt_proj.in_features, mixer.A_log.shape[1]
        step, B, C = mixer.x_proj(x).split([rank, states, states], dim=-1)
        delta = functional.softplus(mixer.dt_proj(step))
        gradient = None
        if output_gradient is not None:
            gradient = (output_gradient @ mixer.out_proj.weight) * functional.silu(z)
        return cls((delta, -mixer.A_log.exp(), B, C), x, gradient)


@torch.no_grad()
def _by_channel(scan: _Scan, channels: int | None) -> tuple[Reading, Reading]:
    """Hidden attention, channel by channel, as `attention_weighted` and `gradient_guided` read it.

    Without a gradient the second is empty, and of the first only the matrix is computed.
    """
    length, d = scan.x.shape
    count = d if channels is None else channels
    total = scan.system[0].cumsum(0)
    pairs = torch.ones(length, length, dtype=torch.bool).tril_()
    mean, guided = torch.zeros(2, length, length)
    activation, importance = torch.zeros(2, 2, d)
    for channel in range(count):
        alpha = channel_attention(scan.system, total, channel)
        mean += alpha
        if scan.gradient is None:
            continue
        x, g = scan.x[:, channel], scan.gradient[:, channel]
        mixed = alpha @ x
        effect = g[:, None] * x * alpha
        guided += effect
        activation[0, channel], activation[1, channel] = mixed.mean(), g @ mixed
        importance[0, channel] = alpha[pairs].std(correction=0)
        importance[1, channel] = effect[pairs].std(correction=0)
    mean, guided = mean / count, guided / count
    return (
        Reading(mean, mean[-1], activation[0], importance[0]),
        Reading(guided, guided.sum(0), activation[1], importance[1]),
    )


# Figures


def draw(job: Job, found: Readings, folder: Path, clock: Clock, kinds: int | None = None) -> None:
    """Every figure, or of each kind only the first so many."""
    kept = slice(0, kinds)
    with clock.time("sheets"):
        for layer, method in list(found)[kept]:
            _sheet(job, found[layer, method], f"{method}, layer {layer}")
            _save(folder / f"attention_neurons_{method}_layer{layer}.png")
    with clock.time("strips"):
        for layer in job.layers[kept]:
            _strip(job, found, layer)
            _save(folder / f"tokens_layer{layer}.png")
    with clock.time("overviews"):
        for method in METHODS[kept]:
            _overview(job, found, method)
            _save(folder / f"layers_by_tokens_{method}.png")


def _sheet(job: Job, reading: Reading, title: str) -> None:
    figure, axes = plt.subplots(2, 2, figsize=(8.5, 8.4), dpi=200)
    figure.suptitle(title)
    importance = reading.neuron_importance.numpy()
    axes[0, 0].bar(np.arange(len(importance)), reading.neuron_activation.numpy())
    axes[0, 0].set_title("neuron activation")
    axes[0, 1].bar(np.arange(len(importance)), importance)
    axes[0, 1].set_title("neuron importance")
    limit = float(reading.matrix.abs().max())
    image = axes[1, 0].imshow(reading.matrix.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
    _label_tokens(axes[1, 0], job.tokens)
    figure.colorbar(image, ax=axes[1, 0])
    top = np.argsort(-np.abs(importance))[:10]
    axes[1, 1].barh([str(neuron) for neuron in top], importance[top])
    axes[1, 1].set_title("top neurons")


def _label_tokens(axes: Axes, tokens: Sequence[str]) -> None:
    at = range(0, len(tokens), max(1, len(tokens) // 32))
    labels = [tokens[i] for i in at]
    axes.set_xticks(at, labels, fontsize=6, rotation=90)
    axes.set_yticks(at, labels, fontsize=6)


def _strip(job: Job, found: Readings, layer: int) -> None:
    figure, axes = plt.subplots(len(METHODS), 1, figsize=(8.5, 8.4), dpi=200)
    figure.suptitle(f"tokens, layer {layer}")
    colours, columns = plt.get_cmap("RdBu_r"), 32
    last = _MOST_WORDS // len(METHODS)
    for panel, method in zip(axes, METHODS, strict=True):
        relevance = found[layer, method].token_relevance
        shares = (0.5 + 0.5 * relevance / relevance.abs().max())[-last:].tolist()
        for index, (token, share) in enumerate(zip(job.tokens[-last:], shares, strict=True)):
            place = (index % columns / columns, 1 - index // columns / 4)
            panel.text(*place, token, fontsize=7, backgroundcolor=colours(share))
        panel.set_title(method)
        panel.axis("off")


def _overview(job: Job, found: Readings, method: str) -> None:
    _, axes = plt.subplots(figsize=(8.5, 4), dpi=200)
    relevance = torch.stack([found[layer, method].token_relevance for layer in job.layers])
    shares = relevance / relevance.abs().amax(1, keepdim=True)
    axes.imshow(
        shares.numpy(), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest"
    )
    axes.set_yticks(range(len(job.layers)), [str(layer) for layer in job.layers])
    axes.set_xticks(range(0, len(job.tokens), max(1, len(job.tokens) // 32)))
    axes.set_title(f"{method}, layers by tokens")


def _save(path: Path) -> None:
    plt.savefig(path)
    plt.close()
