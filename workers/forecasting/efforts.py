"""What the phases of a job take on the machine that this was measured on: two cores, no GPU.

Foretold from the request and the models' descriptions alone. The constants are orders of magnitude
that hold within a factor of two or three; what a model really takes is learnt (`jobs.costs`), so
that what counts here is how the seconds grow with tokens, layers and channels.

Letters: m hidden size, d channels, h heads, n states, l tokens of a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from catalogue.memory import result_bytes, tensor_bytes, weight_bytes
from catalogue.workload import Workload
from schemas import pieces
from schemas.catalogue import LayerDescription, ModelDescription
from schemas.names import Block, Method, Mixer
from schemas.request import JobRequest
from schemas.result import HEATMAP_BLOCKS
from schemas.sections import UniversalitySection
from workers.analyses.integrated_gradients import BACKWARD, layers_a_prompt
from workers.forecasting.forecast import Phase

# Seconds of a multiplication and addition in a matrix product; of a byte of weights that is read.
_PRODUCT, _WEIGHT_BYTE = 1.7e-11, 5e-11
# Of a call of a layer, whatever passes; of an update of a state as a text passes.
_LAYER, _SCAN = 8e-4, 8e-10
# Of a layer read and of each of its methods; of an update of a state as a layer is read, and of
# one of a moment's state of pairs; of one pair of tokens, channel and state of a matrix.
_READ, _UPDATE, _MOMENT, _PAIR = 3e-3, 4e-9, 6e-10, 5e-12
# Of a pair of tokens and head of an SSD's moments; of one row of `contribution`, and of its phases.
_SSD_PAIR, _ROW, _ROW_PART = 5e-9, 5e-4, 1e-9
# Of a number that is written into the document, and of one that is rendered and stored.
_WRITTEN, _RENDERED = 3e-6, 2e-7
# Of a text of which nothing is read but its target; of a neuron in the document.
TEXT, _NEURON = 3e-4, 1e-5
# Of storing a file; of a byte of it.
_STORED, _BYTE = 3e-3, 3e-9
# Of loading a model at all, and of a byte of it: read, hashed and tried.
_LOAD, _LOADED_BYTE = 0.15, 4e-9
# Of a number drawn at random.
_DRAWN = 2e-8
# Of a text's layer and method in the averages over all texts.
_AVERAGED = 2e-5
# A GPU against two cores.
_GPU = 40.0
# Tokens of a batch at most, as the tracing pass has it.
_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Layers:
    """What a pass through one layer of a model takes, whichever: the mean over its layers."""

    call: float
    token: float
    pair: float
    speed: float

    @classmethod
    def of(cls, model: ModelDescription, speed: float) -> "Layers":
        """From the sizes of a model; `speed` against two cores."""
        count = max(len(model.layers), 1)
        embedded = model.vocab_size * model.hidden_size
        weights = max((model.parameters or 0) - embedded, 12 * count * model.hidden_size**2 // 10)
        states = sum(_updates(layer) for layer in model.layers) / count
        attends = sum(layer.mixer is Mixer.SOFTMAX for layer in model.layers) / count
        each = weights / count
        return cls(
            call=_LAYER + model.dtype.size * each * _WEIGHT_BYTE,
            token=each * _PRODUCT + states * _SCAN,
            pair=attends * 2 * model.hidden_size * _PRODUCT,
            speed=speed,
        )

    def seconds(self, rows: int, length: int) -> float:
        """Of so many rows that pass together forward, each of `length` tokens."""
        taken = self.call + rows * length * (self.token + self.pair * length / 2)
        return taken / self.speed


def speed_of(work: Workload) -> float:
    """How fast a worker computes, against two cores."""
    return _GPU if work.on_gpu else (work.threads / 2) ** 0.5


def loading_seconds(model: ModelDescription) -> float:
    """Of getting a model into memory."""
    return _LOAD + _LOADED_BYTE * (model.stored_bytes or weight_bytes(model))


def model_efforts(
    request: JobRequest, work: Workload, facts: Sequence[int], control_tokens: int
) -> dict[Phase, float]:
    """Seconds of one model's phases but for its loading. `facts`: tokens of all their prompts."""
    layers, speed = Layers.of(work.model, speed_of(work)), speed_of(work)
    found = {
        Phase.TRACING: tracing_seconds(work, layers),
        Phase.READING: sum(reading_seconds(work, length) for length in work.lengths),
    }
    if request.neurons is not None:
        found[Phase.NEURONS] = _NEURON * work.neurons
    if request.knowledge_neurons is not None:
        found[Phase.FACTS] = _fact_seconds(request, work, layers, facts)
    if request.perturbation is not None:
        found[Phase.INTERVENTIONS] = _perturbing_seconds(request, work, layers, control_tokens)
    slow = {phase: seconds / speed for phase, seconds in found.items() if phase is Phase.READING}
    return found | slow


def rendering_seconds(works: Sequence[Workload], figures: int) -> float:
    """Of writing the document and the tensors, and of storing all files."""
    seconds = figures * _STORED
    for work in works:
        numbers = (result_bytes(work) - tensor_bytes(work)) / 64
        seconds += numbers * _RENDERED + tensor_bytes(work) * _BYTE
    return seconds


def storing_seconds(size: int) -> float:
    """Of storing one file of so many bytes."""
    return _STORED + size * _BYTE


def averaging_seconds(works: Sequence[Workload]) -> float:
    """Of averages over the texts, with their intervals, and of models side by side."""
    return _AVERAGED * sum(
        len(work.lengths) * len(work.selection.layers) * len(work.methods)
        for work in works
        if len(work.lengths) > 1 or len(works) > 1
    )


def matching_seconds(section: UniversalitySection, works: Sequence[Workload]) -> float:
    """Of comparing every pair of models, four products of n K K' each, and of turning blocks."""
    tokens = min(section.max_tokens, *(sum(work.lengths) for work in works))
    neurons = [work.neurons for work in works]
    pairs = sum(a * b for i, a in enumerate(neurons) for b in neurons[i + 1 :])
    turned = sum(
        work.model.neurons_at_most(layer, block) ** 2
        for work in works
        for layer in work.selection.neurons
        for block in section.blocks or list(Block)
    )
    seconds = 4 * tokens * pairs * _PRODUCT + turned * (_DRAWN + tokens * _PRODUCT)
    return (seconds + sum(neurons) * _NEURON) / speed_of(works[0])


def tracing_seconds(work: Workload, layers: Layers) -> float:
    """Of the pass over all texts, and back where any gradient is wanted."""
    count = len(work.model.layers)
    wanted = work.selection.gradient | work.selection.attributed
    above = count - min(wanted) if wanted else 0
    back = BACKWARD + _in_pieces(work, above)
    steps = count + above * back
    batches = max(1.0, sum(work.lengths) / _BATCH_TOKENS)
    calls = batches * layers.seconds(1, 0)
    passing = sum(layers.seconds(1, length) - layers.seconds(1, 0) for length in work.lengths)
    return steps * (calls + passing)


def reading_seconds(work: Workload, length: int) -> float:
    """Of reading one text's layers and writing its phase of the document."""
    return TEXT + sum(layer_seconds(work, layer, length) for layer in work.traced)


def layer_seconds(work: Workload, layer: LayerDescription, length: int) -> float:
    """Of one layer of one text, read by all methods where it is reported, else by `rollout`."""
    reported = layer.layer in work.selection.layers
    methods = set(work.methods) if reported else set(work.methods) & {Method.ROLLOUT}
    whole = work.whole & methods
    seconds = _READ * (1 + len(methods)) + _UPDATE * length * max(_updates(layer), 1)
    spreads = methods & {Method.ATTENTION_WEIGHTED, Method.GRADIENT_GUIDED}
    seconds += len(spreads) * _moment_seconds(layer, length)
    seconds += _matrices(work, methods, whole) * _matrix_seconds(layer, length)
    if Method.ROLLOUT in whole:
        seconds += length**3 * _PRODUCT
    if Method.CONTRIBUTION in methods:
        rows = length if Method.CONTRIBUTION in whole else 1
        seconds += rows * (_ROW + _row_part(work, layer) * length)
    if reported:
        seconds += _WRITTEN * _numbers(methods, whole, layer, length)
    return seconds


def _matrices(work: Workload, methods: set[Method], whole: set[Method]) -> int:
    """How many weightings have their whole matrix computed."""
    plain = bool(whole & {Method.ATTENTION_WEIGHTED, Method.ROLLOUT})
    # A clamped rollout of one row needs every row of the mean attention, block by block.
    plain |= Method.ROLLOUT in methods and work.rollout_clamp
    return plain + (Method.GRADIENT_GUIDED in whole)


def _matrix_seconds(layer: LayerDescription, length: int) -> float:
    return _PAIR * length**2 * max(_updates(layer), 1)


def _moment_seconds(layer: LayerDescription, length: int) -> float:
    channels, states = layer.channels or 0, layer.d_state or 1
    if layer.mixer is Mixer.S6:
        return _MOMENT * length * channels * states**2
    if layer.mixer is Mixer.SSD:
        return _SSD_PAIR * length**2 * (layer.heads or 1)
    return _PAIR * length**2 * channels


def _row_part(work: Workload, layer: LayerDescription) -> float:
    """Seconds of a key's phase in one row of `contribution`."""
    if layer.mixer is Mixer.S6:
        return _ROW_PART * _updates(layer)
    return 2 * _PRODUCT * (layer.channels or 0) * work.model.hidden_size


def _updates(layer: LayerDescription) -> int:
    """What a token updates in a layer: its channels' states, or its channels."""
    return (layer.channels or 0) * (layer.d_state or 1)


def _numbers(
    methods: set[Method], whole: set[Method], layer: LayerDescription, length: int
) -> float:
    """Numbers of one layer and text in the document."""
    side = min(length, HEATMAP_BLOCKS)
    numbers = len(methods) * (2 * (layer.channels or 0) + length)
    return numbers + len(whole) * side * (side + 1) / 2


def _in_pieces(work: Workload, above: int) -> bool:
    """Whether a backward pass runs the model again, piece by piece."""
    if work.on_gpu or not above or work.model.architecture not in ("mamba", "mamba2"):
        return False
    return work.longest > pieces.pass_tokens(work.model.hidden_size, above, 1)


def _fact_seconds(
    request: JobRequest, work: Workload, layers: Layers, facts: Sequence[int]
) -> float:
    """Of every prompt: one pass, and of each block a survey and the steps of an integral."""
    section = request.knowledge_neurons
    if section is None:
        return 0.0
    count = len(work.model.layers)
    sites = [
        layer
        for layer in work.selection.neurons
        for block in section.blocks or list(Block)
        if work.model.neurons_at_most(layer, block)
    ]
    passed = layers_a_prompt(count, sites, section.steps)
    return sum(passed * (layers.seconds(1, length) - layers.seconds(1, 0)) for length in facts) + (
        passed / 32 * layers.seconds(1, 0)
    )


def _perturbing_seconds(
    request: JobRequest, work: Workload, layers: Layers, control_tokens: int
) -> float:
    """Of every text, unchanged and under every condition."""
    section = request.perturbation
    if section is None:
        return 0.0
    conditions = len(section.sets) * (1 + section.random_sets) * len(section.interventions)
    tokens = sum(work.lengths) + control_tokens
    passing = tokens * (layers.seconds(1, 1) - layers.seconds(1, 0))
    heads = tokens * work.model.vocab_size * work.model.hidden_size * _PRODUCT / layers.speed
    return (1 + conditions) * (len(work.model.layers) * passing + heads)
