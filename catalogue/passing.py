"""How much memory a pass of a model over texts takes, told before it runs.

Upper bounds, in bytes. Letters: m hidden size, d channels, h heads, n states, r rank of Delta's
projection, g groups, l tokens.

The library's own attention holds no scores; where a mask is given, for a window, it holds that mask
in float32, and a graph keeps one a layer. Attention with a cap or sinks runs in blocks of scores.
"""

import sys
from collections.abc import Collection
from dataclasses import dataclass, replace

from catalogue.selection import Selection
from catalogue.workload import Workload
from schemas import pieces
from schemas.catalogue import LayerDescription, ModelDescription
from schemas.names import Mixer

_FLOAT = 4
# Floats per token and hidden unit of a forward pass whose mixers are unknown here.
_OTHER_MODEL = 48
# The architectures whose texts pass in pieces, as `workers.passes` has it.
_PIECEWISE = ("mamba", "mamba2")
# Architectures whose attention has a cap or sinks.
_IN_BLOCKS = (
    *("gemma2", "vaultgemma", "gpt_oss"),
    *("granite_swa", "granitemoe_swa", "mimo_v2_flash"),
)
# Blocks of scores that are alive at once: before and after the cap, and its tanh; and where one is
# run again for its gradient, those that its graph keeps and the gradients before and after a step.
_SCORES, _GRAPH_SCORES = 3, 5
# Floats of each pair of tokens that a mask takes: as it is made of four truth values, and as the
# library's attention widens it.
_MASK, _WIDE_MASK = 1, 1


@dataclass(frozen=True)
class PassBytes:
    """What a pass over a batch takes: a token of the texts, and one of the piece under way.

    `captured`, among `kept`, stays until the texts are analysed. `piece` are the tokens that pass
    at once: what a piece leaves is freed before the next. `fixed` is taken whatever the tokens, and
    `scores` a token, but no more than `most_scores`.
    """

    captured: int
    kept: int
    passing: int
    piece: int
    fixed: int = 0
    scores: int = 0
    most_scores: int = 0

    def of(self, tokens: int) -> int:
        """Bytes of a batch of so many tokens."""
        scores = min(tokens * self.scores, self.most_scores)
        return self.fixed + scores + tokens * self.kept + min(tokens, self.piece) * self.passing

    def tokens_in(self, room: int) -> int:
        """Tokens of a batch that, with one before it, takes no more than `room` bytes."""
        room, staying = room - self.fixed - self.most_scores, self.captured + self.kept
        whole = room // (staying + self.passing)
        if whole <= self.piece:
            return whole
        return (room - self.piece * self.passing) // staying


def pass_bytes(
    model: ModelDescription, traced: int, gradient: Collection[int], longest: int, on_gpu: bool
) -> PassBytes:
    """What tracing takes, of one text or of several that are as long together, each `longest`.

    `traced` layers keep what goes in and out of their mixer; a gradient at the `gradient` layers
    keeps the graph from the lowest of them on, of a piece at a time where a model passes in pieces.
    """
    m = model.hidden_size
    captured = kept = traced * 2 * m + len(gradient) * m
    if all(layer.mixer is Mixer.NONE for layer in model.layers):
        return PassBytes(_FLOAT * kept, _FLOAT * kept, _FLOAT * _OTHER_MODEL * m, sys.maxsize)
    in_blocks = model.architecture in _IN_BLOCKS
    masked = longest if model.window is not None and longest >= model.window else 0
    wide_mask = 0 if in_blocks else _WIDE_MASK * masked
    passing = max(_passing(model, layer) for layer in model.layers) + _MASK * masked + wide_mask
    in_pieces = model.architecture in _PIECEWISE and not on_gpu
    above = fixed = 0
    if gradient:
        # The lowest of them is a leaf: only what lies above it is kept for the backward pass.
        upper = model.layers[min(gradient) + 1 :]
        above = len(upper) + 1
        passing += sum(_graph(model, layer, wide_mask) for layer in upper)
        passing += max(_leaf(model, layer) for layer in model.layers)
        fixed = max((_rerun(layer) for layer in upper), default=0)
        # The stream of hidden states from which each piece starts again.
        kept += m if in_pieces else 0
    # A text of several is never cut shorter than alone would cut all of them together, but for the
    # shortest pieces, which are small.
    piece = pieces.pass_tokens(m, above, 1) if in_pieces else sys.maxsize
    # The ids and the positions' own numbers.
    kept = max(kept, 4)
    taken = PassBytes(_FLOAT * captured, _FLOAT * kept, _FLOAT * passing, piece, _FLOAT * fixed)
    if not in_blocks:
        return taken
    heads = max(layer.heads or 1 for layer in model.layers)
    blocks = _FLOAT * (_GRAPH_SCORES if above > 1 else _SCORES)
    return replace(taken, scores=blocks * heads * longest, most_scores=blocks * pieces.ATTENTION)


def _passing(model: ModelDescription, layer: LayerDescription) -> int:
    """Floats a token that one layer holds at once where no graph is kept."""
    m, d, mlp = model.hidden_size, layer.channels or 0, _mlp(model, layer)
    selected = _selected(model, layer)
    if layer.beside is not None:
        # It does not run at the same time; Zamba's is as wide as twice the hidden size.
        d = max(d, 2 * m)
    return 6 * m + 8 * d + 3 * selected + 4 * mlp


def _graph(model: ModelDescription, layer: LayerDescription, mask: int) -> int:
    """Floats a token that the graph keeps of one layer's block, its attention's mask among them."""
    m, d, mlp = model.hidden_size, layer.channels or 0, _mlp(model, layer)
    selected, n = _selected(model, layer), layer.d_state or 0
    block = 3 * m + 5 * mlp + (2 * m if mlp else 0)
    if layer.beside is not None:
        # As below of m channels; or of twice as many where no positions are added, as in Zamba.
        block += 12 * m
    if Mixer.SOFTMAX in (layer.mixer, layer.beside):
        block += mask
    if layer.mixer is Mixer.S6:
        # Projections, convolution, scan, and a state in 32 tokens.
        return block + 5 * d + 2 * selected + d * n // 32
    if layer.mixer is Mixer.SSD:
        # As well a gated norm, and a state a piece, which may be a single chunk of many texts.
        return block + 9 * d + 4 * selected + d * n // pieces.CHUNK_SSD
    # Queries, keys and values before and after their positions, and what attention returns.
    return block + 10 * d


def _mlp(model: ModelDescription, layer: LayerDescription) -> int:
    """Neurons of a layer's MLP: none in a mixer's where MLPs are layers of their own."""
    apart = layer.mixer is not Mixer.NONE and any(
        other.mixer is Mixer.NONE for other in model.layers
    )
    return 0 if apart else model.mlp_channels or 0


def _leaf(model: ModelDescription, layer: LayerDescription) -> int:
    """Floats a token of the gradients that flow through one layer."""
    return 2 * (layer.channels or 0) + 2 * _mlp(model, layer)


def _rerun(layer: LayerDescription) -> int:
    """Floats that the backward pass of one layer holds of the piece that it runs again."""
    if layer.mixer is not Mixer.SSD:
        return 0
    d, h, n = layer.channels or 0, layer.heads or 0, layer.d_state or 0
    # What goes in and out, scores and decays of a chunk's pairs, and states of a chunk.
    each = 8 * d + 4 * pieces.CHUNK_SSD * h + 4 * d * n // pieces.CHUNK_SSD
    return pieces.PASS_SSD * each


def _selected(model: ModelDescription, layer: LayerDescription) -> int:
    """Numbers a token that make Delta, B and C."""
    if layer.mixer is Mixer.S6:
        return (model.dt_rank or 0) + 2 * (layer.d_state or 0)
    if layer.mixer is Mixer.SSD:
        return 2 * (layer.groups or 1) * (layer.d_state or 0) + (layer.heads or 0)
    return 0


def activation_bytes(work: Workload) -> int:
    """What tracing the longest text takes, with what the batch before it still holds."""
    chosen, length = work.selection, work.longest
    found = pass_bytes(work.model, len(chosen.captured), chosen.gradient, length, work.on_gpu)
    before = length * found.captured if len(work.lengths) > 1 else 0
    return before + found.of(length) + length * _attributed_bytes(work)


def _attributed_bytes(work: Workload) -> int:
    """Bytes per token of the MLPs' neurons, their gradients and the products of both."""
    layers = (work.model.layers[layer] for layer in work.selection.attributed)
    return _FLOAT * 3 * sum(_mlp(work.model, layer) for layer in layers)


def captured_bytes(model: ModelDescription, chosen: Selection) -> int:
    """Bytes per token that stay from a batch's tracing until its texts are analysed."""
    return _FLOAT * model.hidden_size * (2 * len(chosen.captured) + len(chosen.gradient))
