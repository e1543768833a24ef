"""How much memory a job needs, told from its request before it runs.

Upper bounds, in bytes, of what is alive at the same moment; a test measures real jobs against
them. They leave out what a worker needs without any job: its libraries, and those that draw.

Letters in comments: m hidden size, d channels, n states, r rank of Delta's projection, l tokens.
"""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from catalogue.selection import Selection, select
from schemas import pieces
from schemas.catalogue import ModelDescription
from schemas.names import NEEDS_GRADIENT, Method
from schemas.request import JobRequest, Rows
from schemas.result import HEATMAP_BLOCKS
from schemas.settings import Settings

_FLOAT = 4
# Bytes of one number of the document, as an object, then as text and again encoded; of one token.
_NUMBER = 64
_TOKEN = 1024
# Floats per token and hidden unit of a forward pass whose mixers are unknown here.
_OTHER_MODEL = 48
# Floats per token of what reading one layer's target rows keeps of the whole text; of a rollout,
# for each layer on its way.
_ROW_FLOATS = 64
_ROLLOUT_FLOATS = 4
# What the matrix kernel holds per thread, matrix and token: factors.
_FACTORS = 2304
_PAGE = 4096


@dataclass(frozen=True)
class Workload:
    """What one model of a job does, as far as memory goes; `rows` holds the methods asked for."""

    model: ModelDescription
    selection: Selection
    lengths: Sequence[int]
    rows: Mapping[Method, Rows]
    rollout_clamp: bool
    tensors: bool
    threads: int
    on_gpu: bool = False

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(self.lengths)

    @property
    def methods(self) -> Collection[Method]:
        """The methods that will run: none where no layer can be read."""
        return self.rows if self.selection.layers else ()

    @property
    def whole(self) -> set[Method]:
        """The methods whose whole matrix is read."""
        return {method for method in self.methods if self.rows[method] == "all"}


@dataclass(frozen=True)
class Needs:
    """Bytes that are alive together, by what they are."""

    model: int = 0
    activations: int = 0
    matrices: int = 0
    results: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.model + self.activations + self.matrices + self.results


def workload(
    request: JobRequest, model: ModelDescription, lengths: Sequence[int], settings: Settings
) -> Workload:
    """What the request asks of one model whose tokenizer gives the texts these lengths."""
    section = request.attention
    methods = [] if section is None else section.methods
    return Workload(
        model=model,
        selection=select(request, model),
        lengths=lengths,
        rows={} if section is None else {method: section.rows_of(method) for method in methods},
        rollout_clamp=section is None or section.rollout_clamp,
        tensors=request.tensors,
        threads=settings.threads or os.cpu_count() or 1,
        # Of `auto` the service knows nothing; a worker has put its own device there (`fit`).
        on_gpu=settings.device.startswith("cuda"),
    )


def needs(work: Workload, results: int) -> Needs:
    """The worst moment of a model's part of a job whose texts run one by one.

    `results` is what the whole job keeps to its end (`result_bytes` of all its models), since the
    models run after each other.
    """
    model, length = weight_bytes(work.model), work.longest
    moments = (
        Needs(model=loading_bytes(work.model)),
        Needs(model, activation_bytes(work), 0, results),
        Needs(
            model,
            length * captured_bytes(work.model, work.selection),
            reading_bytes(work, length),
            results,
        ),
        # The file is a copy of the tensors, and room for one more is kept while it is stored.
        Needs(model, results=results + 2 * tensor_bytes(work)),
    )
    return max(moments, key=lambda moment: moment.total)


def without_gradient(work: Workload) -> Workload:
    """The workload without the methods that need a gradient."""
    rows = {method: rows for method, rows in work.rows.items() if method not in NEEDS_GRADIENT}
    return replace(work, rows=rows, selection=replace(work.selection, gradient=set()))


def activation_room(work: Workload, results: int, budget: int) -> int:
    """Bytes of the budget that the activations of one batch of texts may take."""
    matrices = reading_bytes(work, work.longest)
    return max(0, budget - weight_bytes(work.model) - matrices - results)


def longest_that_fits(work: Workload, results: int, budget: int) -> int:
    """Tokens that the longest text may have, the others as they are; 0 where even one is too much.

    Never more than it has now.
    """
    fitting, over = 0, work.longest + 1
    while over - fitting > 1:
        middle = (fitting + over) // 2
        shorter = replace(work, lengths=[min(length, middle) for length in work.lengths])
        saved = result_bytes(work) - result_bytes(shorter)
        if needs(shorter, results - saved).total <= budget:
            fitting = middle
        else:
            over = middle
    return fitting


def weight_bytes(model: ModelDescription) -> int:
    """The weights in float32, as they run; 0 where their number is unknown."""
    return _FLOAT * (model.parameters or 0)


def loading_bytes(model: ModelDescription) -> int:
    """The weights while they are loaded: as stored, and widened where they are not float32."""
    stored, wide = model.stored_bytes or 0, weight_bytes(model)
    return stored if stored == wide else stored + wide


def is_plausible(model: ModelDescription) -> bool:
    """Whether the weights are enough for the sizes that the config gives.

    A config that claims more is refused when the model is loaded; what it would need means nothing.
    """
    if model.parameters is None:
        return False
    hidden, layers = model.hidden_size, len(model.layers)
    least = model.vocab_size * hidden + layers
    if model.channels is not None and model.d_state is not None and model.dt_rank is not None:
        mixer = 3 * hidden + 3 * model.d_state + 2 * model.dt_rank
        least += layers * model.channels * mixer
    return least <= model.parameters


@dataclass(frozen=True)
class PassBytes:
    """What a pass over a batch takes: a token of the texts, and one of the piece under way.

    `captured`, among `kept`, stays until the texts are analysed. `piece` are the tokens that pass
    at once: what a piece leaves is freed before the next.
    """

    captured: int
    kept: int
    passing: int
    piece: int

    def of(self, tokens: int) -> int:
        """Bytes of a batch of so many tokens."""
        return tokens * self.kept + min(tokens, self.piece) * self.passing

    def tokens_in(self, room: int) -> int:
        """Tokens of a batch that, with one before it, takes no more than `room` bytes."""
        staying = self.captured + self.kept
        whole = room // (staying + self.passing)
        if whole <= self.piece:
            return whole
        return (room - self.piece * self.passing) // staying


def pass_bytes(
    model: ModelDescription, traced: int, gradient: Collection[int], on_gpu: bool
) -> PassBytes:
    """What tracing takes, of one text or of several that are as long together.

    `traced` layers keep what goes in and out of their mixer; a gradient at the `gradient` layers
    keeps the graph from the lowest of them on, of one piece at a time where the mixers are known
    and run on a CPU.
    """
    m = model.hidden_size
    d, n, r = model.channels, model.d_state, model.dt_rank
    captured = kept = traced * 2 * m + len(gradient) * m
    if d is None or n is None or r is None:
        return PassBytes(_FLOAT * kept, _FLOAT * kept, _FLOAT * _OTHER_MODEL * m, sys.maxsize)
    selected = r + 2 * n
    passing = 6 * m + 8 * d + 3 * selected
    above = 0
    if gradient:
        # The lowest of them is a leaf: only what lies above it is kept for the backward pass, which
        # is projections, convolution, scan, and a state in 32 tokens.
        above = len(model.layers) - min(gradient)
        passing += (above - 1) * (3 * m + 5 * d + 2 * selected + d * n // 32) + 2 * d
        # The stream of hidden states from which each piece starts again.
        kept += m
    # A text of several is never cut shorter than alone would cut all of them together, but for the
    # shortest pieces, which are small.
    piece = sys.maxsize if on_gpu else pieces.pass_tokens(m, above, 1)
    # The ids and the positions' own numbers.
    return PassBytes(_FLOAT * captured, _FLOAT * max(kept, 4), _FLOAT * passing, piece)


def activation_bytes(work: Workload) -> int:
    """What tracing the longest text takes, with what the batch before it still holds."""
    chosen, length = work.selection, work.longest
    found = pass_bytes(work.model, len(chosen.traced), chosen.gradient, work.on_gpu)
    before = length * found.captured if len(work.lengths) > 1 else 0
    return before + found.of(length)


def captured_bytes(model: ModelDescription, chosen: Selection) -> int:
    """Bytes per token that stay from a batch's tracing until its texts are analysed."""
    return _FLOAT * model.hidden_size * (2 * len(chosen.traced) + len(chosen.gradient))


def reading_bytes(work: Workload, length: int) -> int:
    """What the methods hold at once while they read one layer of a text of `length` tokens."""
    d = work.model.channels
    if not work.methods or d is None:
        return 0
    # The trace of this layer and of the one before, and the copies that the kernels make.
    wide = 12 + 8 * (len(work.selection.traced) > 1) + 5 * bool(work.selection.gradient)
    each = _FLOAT * (wide * d + 4 * work.model.hidden_size)
    if work.on_gpu:
        # Plain torch widens what it scans, and keeps its weights p and q.
        each += _FLOAT * 12 * d
    if not _matrices(work):
        rollouts = (Method.ROLLOUT in work.methods) * len(work.selection.layers)
        rows = _FLOAT * (_ROW_FLOATS + _ROLLOUT_FLOATS * rollouts)
        return min(length, pieces.READ) * each + length * rows + _temporaries(work)
    return length * each + _kernel_bytes(work, length) + _FLOAT * length**2 * _matrices(work)


def _kernel_bytes(work: Workload, length: int) -> int:
    """What the kernel that computes a layer's matrices holds until it has them."""
    # The mean attention and the gradient's are computed in one pass.
    mean = {Method.ATTENTION_WEIGHTED, Method.ROLLOUT}
    together = 1 + (Method.GRADIENT_GUIDED in work.whole and not mean.isdisjoint(work.whole))
    if work.on_gpu:
        # Sums over a power of two of tokens, what they are copied to, and one level's products;
        # p and q of all tokens.
        span, d = 1 << (length - 1).bit_length(), work.model.channels or 0
        sums = together * (3 * span * span // 2 + length**2) + (2 * together + 1) * span * d
        return _FLOAT * sums + _temporaries(work, together * span * (work.model.d_state or 0))
    partial = _FLOAT * length**2 * together
    threads = min(work.threads, max(1, pieces.PARTIAL_BYTES // partial))
    # Of each thread's sums only the lower triangle is touched, in whole pages.
    return threads * (partial // 2 + together * (_PAGE + _FACTORS) * length)


def _temporaries(work: Workload, least: int = 0) -> int:
    """What plain torch holds of a chunk on a GPU: up to six tensors, of no fewer elements."""
    return 6 * _FLOAT * max(pieces.TEMPORARY, least) if work.on_gpu else 0


def _matrices(work: Workload) -> int:
    """How many (l, l) matrices are alive at once."""
    whole = work.whole
    rolls = Method.ROLLOUT in whole
    carries = Method.ROLLOUT in work.methods and not rolls and work.rollout_clamp
    own = len(whole & {Method.GRADIENT_GUIDED, Method.CONTRIBUTION})
    averaged = Method.ATTENTION_WEIGHTED in whole
    # Of the layer before until this one is read; the running rollout and the next one; of this
    # layer, and a copy for its checks; the rows of `contribution` before they are stacked.
    before = averaged + own
    running = 2 * rolls + 2 * carries
    now = (averaged or rolls) + own + (Method.CONTRIBUTION in whole)
    return before + running + now + bool(whole)


def tensor_bytes(work: Workload) -> int:
    """Every tensor of this model in `tensors.safetensors`; 0 where they are not asked for."""
    d = work.model.channels
    if not work.tensors or d is None:
        return 0
    numbers = 0
    for length in work.lengths:
        for method in work.methods:
            rows = length if method in work.whole else 1
            relevances = 2 if method is Method.CONTRIBUTION else 1
            # The importance of a neuron under `rollout` needs every row.
            neurons = 1 if method is Method.ROLLOUT and method not in work.whole else 2
            numbers += (rows + relevances) * length + neurons * d
    return _FLOAT * numbers * len(work.selection.layers)


def result_bytes(work: Workload) -> int:
    """What one model adds to what a job keeps to its end: its tensors and its part of the result.

    The result counts as objects and, at the end, as text.
    """
    numbers = 0
    for length in work.lengths:
        for method in work.methods:
            side = min(length, HEATMAP_BLOCKS)
            drawn = side * (side + 1) // 2 if method in work.whole else length
            relevances = 2 if method is Method.CONTRIBUTION else 1
            numbers += relevances * length + drawn + 2 * (work.model.channels or 0)
    documents = _NUMBER * numbers * len(work.selection.layers) + _TOKEN * sum(work.lengths)
    return documents + tensor_bytes(work)
