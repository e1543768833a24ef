"""What transformers itself does on a CPU: its own scan, forward and backward."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import MambaForCausalLM

from workers.kernels import mamba


def load(directory: Path) -> MambaForCausalLM:
    model = MambaForCausalLM.from_pretrained(directory)
    return model.eval().requires_grad_(False)


@contextmanager
def own_scan(model: MambaForCausalLM, use_mambapy: bool = False) -> Iterator[None]:
    """transformers' own scan for the length of a with block: the fallback, or mambapy's."""
    mixers = [layer.mixer for layer in model.backbone.layers]
    mamba.uninstall()
    for mixer in mixers:
        mixer.use_mambapy = use_mambapy
    try:
        yield
    finally:
        mamba.install()
        for mixer in mixers:
            mixer.use_mambapy = False


def next_logits(model: MambaForCausalLM, ids: Sequence[int]) -> Tensor:
    """Logits (vocabulary,) after the last token."""
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([ids]), use_cache=False, logits_to_keep=1).logits
    return logits[0, -1]


def target_gradients(
    model: MambaForCausalLM, texts: Sequence[Sequence[int]], layers: Sequence[int]
) -> dict[int, Tensor]:
    """d (top next logit) / d (mixer output), (b, l, m) for each of the layers, by autograd.

    The texts are of one length: they are run as one batch.

    Parameters need no gradient, and the lowest layer's output is made a leaf: nothing is kept for
    what lies below it.
    """
    outputs: dict[int, Tensor] = {}

    def keep(module: Any, args: Any, output: Tensor) -> Tensor | None:
        layer = module.layer_idx
        outputs[layer] = output.detach().requires_grad_() if layer == min(layers) else output
        return outputs[layer]

    hooks = [model.backbone.layers[layer].mixer.register_forward_hook(keep) for layer in layers]
    try:
        logits = model(torch.tensor(texts), use_cache=False, logits_to_keep=1).logits
    finally:
        for hook in hooks:
            hook.remove()
    target = logits[:, -1].amax(1).sum()
    found = torch.autograd.grad(target, [outputs[layer] for layer in layers])
    return dict(zip(layers, found, strict=True))
