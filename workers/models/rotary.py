"""Rotary positions whose frequencies depend on the longest text of a pass.

Some models stretch their frequencies (`dynamic`) or take another set (`longrope`) once a text is
longer than those they were first trained on, and the library tells that by the longest text of the
batch; `dynamic` also remembers it. A text of such a model must pass alone, from where the model was
when it was loaded, or its numbers would depend on what else was asked for.
"""

from typing import Any

from torch import nn


def stretching(model: nn.Module) -> list[nn.Module]:
    """The modules whose frequencies depend on the longest text; empty for most models."""
    return [module for module in model.modules() if _stretches(vars(module).get("rope_type"))]


def reset(module: nn.Module) -> None:
    """Make a module forget the texts that it has seen."""
    found: Any = module
    for name, _ in list(module.named_buffers(recurse=False)):
        original = getattr(found, f"{name.removesuffix('inv_freq')}original_inv_freq", None)
        if original is not None and not name.endswith("original_inv_freq"):
            module.register_buffer(name, original.clone(), persistent=False)
    for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
        setattr(module, name, found.original_max_seq_len)


def _stretches(kind: object) -> bool:
    """Of a module's `rope_type`, one for all of its layers or one for each type of them."""
    kinds = kind.values() if isinstance(kind, dict) else [kind]
    return any(isinstance(k, str) and ("dynamic" in k or k == "longrope") for k in kinds)
