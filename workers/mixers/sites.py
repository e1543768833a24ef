"""Where a model's neurons are: the output projections of its blocks, whose inputs they are.

One definition for every model: a neuron is a coordinate of the vector that the output projection
of a block reads. Of a state-space mixer that is the gated output of its scan, of attention the
outputs of its heads, one after another, of an MLP what follows its activation.

Axes: b texts, l tokens, d neuron.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from schemas.names import Block
from workers.mixers import adapter_for, mixers_of

# The names under which MLPs keep their output projection.
_MLP_PROJECTIONS = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "output_linear")
# Modules that several layers share belong to none of them.
_SHARED = ("shared_transf", "shared_transformer")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(.+)$")

Place = tuple[int, Block]
"""A block of a layer: what a site is called where its modules do not matter."""


@dataclass(frozen=True)
class Site:
    """One block of one layer; its neurons are what `projection` reads, (.., d).

    mixer: the module of a mixer, None of an MLP.
    """

    layer: int
    block: Block
    projection: nn.Module
    mixer: nn.Module | None = None

    @property
    def place(self) -> Place:
        """Its layer and block."""
        return self.layer, self.block

    @property
    def neurons(self) -> int:
        """d."""
        projection: Any = self.projection
        wide = projection.weight.shape
        return int(wide[0] if isinstance(projection, Conv1D) else wide[1])


def in_words(blocks: Collection[Block]) -> str:
    """Blocks in words: "a mixer or an MLP"."""
    words = {Block.MIXER: "a mixer", Block.MLP: "an MLP"}
    return " or ".join(words[block] for block in blocks)


def sites_of(
    model: nn.Module, layers: Collection[int], blocks: Collection[Block] = tuple(Block)
) -> list[Site]:
    """The sites of these layers, in the order in which a pass comes to them.

    A mixer without an adapter, a block that several layers share, and experts, of which each token
    passes others, have none.
    """
    found = []
    for layer, module in mixers_of(model).items():
        adapter = adapter_for(module)
        projection = None if adapter is None else adapter.projection(module)
        if projection is not None:
            found.append(Site(layer, Block.MIXER, projection, module))
    found += _mlps(model)
    order = list(Block)
    wanted = [site for site in found if site.layer in layers and site.block in blocks]
    return sorted(wanted, key=lambda site: (site.layer, order.index(site.block)))


def _mlps(model: nn.Module) -> Iterator[Site]:
    """The MLPs' sites: of each layer the one output projection outside its attention and scan."""
    by_layer: dict[int, list[nn.Module]] = {}
    with_experts = set()
    attention: tuple[str, ...] = ()
    for name, module in model.named_modules():
        at = _LAYER.search(name)
        if at is None or any(part in _SHARED for part in name.split(".")):
            continue
        layer = int(at[1])
        if adapter_for(module) is not None or type(module).__name__.endswith("Attention"):
            attention = (*attention, f"{name}.")
        elif type(module).__name__.endswith("Experts"):
            with_experts.add(layer)
        elif (
            isinstance(module, nn.Linear | Conv1D)
            and name.rsplit(".", 1)[-1] in _MLP_PROJECTIONS
            and not name.startswith(attention)
        ):
            by_layer.setdefault(layer, []).append(module)
    for layer, projections in by_layer.items():
        if len(projections) == 1 and layer not in with_experts:
            yield Site(layer, Block.MLP, projections[0])


@contextmanager
def reading(
    sites: Collection[Site], shape: tuple[int, int], read: Callable[[Site, Tensor], None]
) -> Iterator[None]:
    """Hand every site's neurons (b, l, d) to `read` as a pass of (b, l) tokens comes to them."""

    def hook(site: Site) -> Callable[..., None]:
        def see(module: nn.Module, args: tuple[Any, ...]) -> None:
            read(site, args[0].reshape(*shape, -1))

        return see

    with ExitStack() as hooks:
        for site in sites:
            handle = site.projection.register_forward_pre_hook(hook(site))
            hooks.callback(handle.remove)
        yield


@contextmanager
def changing(
    changes: Mapping[Site, Callable[[Tensor], Tensor]], shape: tuple[int, int]
) -> Iterator[None]:
    """Have the projections of a pass of (b, l) tokens read other neurons (b, l, d).

    Each function gets a block's own neurons and returns those that are read in their place.
    """

    def hook(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        def put(module: nn.Module, args: tuple[Any, ...]) -> Any:
            own: Tensor = args[0]
            return (change(own.reshape(*shape, -1)).reshape(own.shape), *args[1:])

        return put

    with ExitStack() as hooks:
        for site, change in changes.items():
            handle = site.projection.register_forward_pre_hook(hook(change))
            hooks.callback(handle.remove)
        yield
