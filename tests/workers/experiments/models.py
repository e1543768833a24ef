"""Tiny models from disk, and the names of the projections that read their neurons."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from catalogue.locate import locate
from schemas.names import Block, Dtype
from schemas.settings import ModelSettings, Settings
from workers.mixers.sites import Site, sites_of
from workers.models.loading import LoadedModel, load

MIXER, MLP = Block.MIXER, Block.MLP
NAMES: dict[str, dict[Block, str]] = {
    "mamba": {MIXER: "backbone.layers.{}.mixer.out_proj"},
    "mamba2": {MIXER: "backbone.layers.{}.mixer.out_proj"},
    "gpt2": {MIXER: "transformer.h.{}.attn.c_proj", MLP: "transformer.h.{}.mlp.c_proj"},
}


def loaded_from(
    root: Path, save: Callable[..., Any], dtype: Dtype = Dtype.FLOAT32, **options: Any
) -> LoadedModel:
    """The model that `save` writes, on the CPU."""
    save(root / "model", **options)
    settings = Settings(
        model_dir=root, device="cpu", models=(("model", ModelSettings(dtype=dtype)),)
    )
    return load(locate("model", settings), settings)


def projection(loaded: LoadedModel, layer: int, block: Block) -> str:
    """The name of the module that reads a block's neurons."""
    return NAMES[loaded.description.architecture][block].format(layer)


def pool_of(loaded: LoadedModel) -> list[Site]:
    """All of a model's sites."""
    return sites_of(loaded.model, range(len(loaded.description.layers)))
