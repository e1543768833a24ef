"""How much memory a job needs, told from its request before it runs.

Upper bounds, in bytes, of what is alive at the same moment; a test measures real jobs against
them. They leave out what a worker needs without any job: its libraries, and those that draw.

What a pass takes is told by `passing`, and what reading a layer takes by `reading`.
"""

from dataclasses import dataclass, replace

from catalogue.passing import activation_bytes, captured_bytes
from catalogue.reading import reading_bytes
from catalogue.workload import Workload
from schemas.catalogue import ModelDescription
from schemas.names import Method, Mixer
from schemas.result import HEATMAP_BLOCKS

_FLOAT = 4
# Bytes of one number of the document, as an object, then as text and again encoded; of one token;
# of one token of a text of which only the target is known, which is kept as text.
_NUMBER = 64
_TOKEN = 1024
_WRITTEN_TOKEN = 256
# Numbers of the document a neuron has; bytes of its running sums, and of each token kept of it.
_NEURON_NUMBERS = 12
_NEURON_SUMS = 512
_KEPT_TOKEN = 12
# What a job of a few tokens is measured to take, whatever the model: up to 16 MB of code that runs
# for the first time, buffers, and memory that is freed in pieces too small to be given back.
_OTHER = 16 << 20


@dataclass(frozen=True)
class Needs:
    """Bytes that are alive together, by what they are."""

    model: int = 0
    activations: int = 0
    matrices: int = 0
    results: int = 0
    other: int = _OTHER

    @property
    def total(self) -> int:
        """All of them."""
        return self.model + self.activations + self.matrices + self.results + self.other


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


def activation_room(work: Workload, results: int, budget: int) -> int:
    """Bytes of the budget that the activations of one batch of texts may take."""
    matrices = reading_bytes(work, work.longest)
    return max(0, budget - weight_bytes(work.model) - matrices - results - _OTHER)


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
    """The weights as they run; 0 where their number is unknown."""
    return model.dtype.size * (model.parameters or 0)


def loading_bytes(model: ModelDescription) -> int:
    """The weights while they are loaded: as stored, and as they run where that is another type."""
    stored, wide = model.stored_bytes or 0, weight_bytes(model)
    return stored if stored == wide else stored + wide


def is_plausible(model: ModelDescription) -> bool:
    """Whether the weights are enough for the sizes that the config gives.

    A config that claims more is refused when the model is loaded; what it would need means nothing.
    """
    if model.parameters is None:
        return False
    hidden = model.hidden_size
    least = model.vocab_size * hidden + len(model.layers)
    for layer in model.layers:
        channels, states = layer.channels or 0, layer.d_state or 0
        # Into the mixer twice, with the gate, and out of it; what makes Delta, B and C.
        if layer.mixer is Mixer.S6:
            least += channels * (3 * hidden + 3 * states + 2 * (model.dt_rank or 0))
        elif layer.mixer is Mixer.SSD:
            least += 3 * channels * hidden + 2 * (layer.groups or 1) * states * hidden
    return least <= model.parameters


def tensor_bytes(work: Workload) -> int:
    """Every tensor of this model in `tensors.safetensors`; 0 where they are not asked for."""
    if not work.tensors:
        return 0
    layers, neurons = len(work.selection.layers), sum(work.channels)
    numbers = 0
    for length in work.lengths:
        for method in work.methods:
            rows = length if method in work.whole else 1
            relevances = 2 if method is Method.CONTRIBUTION else 1
            # The importance of a neuron under `rollout` needs every row.
            each = 1 if method is Method.ROLLOUT and method not in work.whole else 2
            numbers += layers * (rows + relevances) * length + each * neurons
    return _FLOAT * numbers


def result_bytes(work: Workload) -> int:
    """What one model adds to what a job keeps to its end: its tensors and its part of the result.

    The result counts as objects and, at the end, as text.
    """
    layers, neurons = len(work.selection.layers), sum(work.channels)
    numbers = 0
    for length in work.lengths:
        for method in work.methods:
            side = min(length, HEATMAP_BLOCKS)
            drawn = side * (side + 1) // 2 if method in work.whole else length
            relevances = 2 if method is Method.CONTRIBUTION else 1
            numbers += layers * (relevances * length + drawn) + 2 * neurons
    each = _TOKEN if layers else _WRITTEN_TOKEN
    documents = _NUMBER * numbers + each * sum(work.lengths)
    return documents + tensor_bytes(work) + neuron_bytes(work)


def neuron_bytes(work: Workload) -> int:
    """What the statistics of a model's neurons take, as they are gathered and in the result."""
    each = _NUMBER * _NEURON_NUMBERS + _NEURON_SUMS + _KEPT_TOKEN * work.top_tokens
    return each * work.neurons
