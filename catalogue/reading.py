"""How much memory the methods hold while they read a layer, told before they run.

Upper bounds, in bytes. Letters as in `passing`.
"""

from catalogue.workload import Workload
from schemas import pieces
from schemas.catalogue import LayerDescription
from schemas.names import Method, Mixer

_FLOAT = 4
# Floats per token of what reading one layer's target rows keeps of the whole text; of a rollout,
# for each layer on its way.
_ROW_FLOATS = 64
_ROLLOUT_FLOATS = 4
# What the matrix kernel holds per thread, matrix and token: factors.
_FACTORS = 2304
_PAGE = 4096
# The methods that need the spread of a matrix over all pairs, whatever rows are asked for.
_SPREADING = {Method.ATTENTION_WEIGHTED, Method.GRADIENT_GUIDED}


def reading_bytes(work: Workload, length: int) -> int:
    """What the methods hold at once while they read one layer of a text of `length` tokens."""
    if not work.traced:
        return 0
    return max(_READING[layer.mixer](work, layer, length) for layer in work.traced)


def _none(work: Workload, layer: LayerDescription, length: int) -> int:
    return 0


def _s6(work: Workload, layer: LayerDescription, length: int) -> int:
    d = layer.channels or 0
    # The trace of this layer and of the one before, and the copies that the kernels make.
    wide = 12 + 8 * (len(work.traced) > 1) + 5 * bool(work.selection.gradient)
    each = _FLOAT * (wide * d + 4 * work.model.hidden_size)
    if work.on_gpu:
        # Plain torch widens what it scans, and keeps its weights p and q.
        each += _FLOAT * 12 * d
    if not _matrices(work):
        rows = _rows(work, length)
        return min(length, pieces.READ) * each + rows + _temporaries(work)
    matrices = _FLOAT * length**2 * _matrices(work)
    return length * each + _kernel_bytes(work, layer, length) + matrices


def _ssd(work: Workload, layer: LayerDescription, length: int) -> int:
    d, h, n, g = (v or 0 for v in (layer.channels, layer.heads, layer.d_state, layer.groups))
    # As of an S6 layer, and what a gated norm and the moments' factors add.
    wide = 16 + 9 * (len(work.traced) > 1) + 10 * bool(work.selection.gradient)
    matrices, spreads = _matrices(work), not work.rows.keys().isdisjoint(_SPREADING)
    # Decays inside the smallest blocks, of all of them at once.
    within = 4 * pieces.LEAF_SSD * h if matrices or spreads else 0
    each = _FLOAT * (wide * d + 6 * g * n + within + 4 * work.model.hidden_size)
    at_once = length if matrices else min(length, pieces.READ_SSD)
    needed = at_once * each + _rows(work, length)
    # Of the largest blocks, half the tokens a side: scores, and the products of each weighting.
    scores = g + 2 * g * _together(work) if matrices else g * spreads
    needed += _FLOAT * (at_once // 2) ** 2 * scores
    if length > pieces.READ_SSD and spreads:
        needed += _FLOAT * n * n * (d + h + 2 * pieces.LEAF_SSD * g)
    return needed + _FLOAT * length**2 * matrices


def _softmax(work: Workload, layer: LayerDescription, length: int) -> int:
    d = layer.channels or 0
    wide = 10 + 5 * (len(work.traced) > 1) + 5 * bool(work.selection.gradient)
    each = _FLOAT * (wide * d + 4 * work.model.hidden_size)
    blocks = 4 * _FLOAT * min(pieces.ATTENTION, (layer.heads or 1) * length**2)
    rows = _rows(work, length)
    return length * each + rows + blocks + _FLOAT * length**2 * _matrices(work) + length**2


_READING = {Mixer.NONE: _none, Mixer.S6: _s6, Mixer.SSD: _ssd, Mixer.SOFTMAX: _softmax}


def _rows(work: Workload, length: int) -> int:
    """Rows that are kept of the whole text, and of each rollout on its way."""
    rollouts = (Method.ROLLOUT in work.methods) * len(work.selection.layers)
    return _FLOAT * (_ROW_FLOATS + _ROLLOUT_FLOATS * rollouts) * length


def _together(work: Workload) -> int:
    """Matrices that are computed in one pass: the mean attention and the gradient's."""
    mean = {Method.ATTENTION_WEIGHTED, Method.ROLLOUT}
    return 1 + (Method.GRADIENT_GUIDED in work.whole and not mean.isdisjoint(work.whole))


def _kernel_bytes(work: Workload, layer: LayerDescription, length: int) -> int:
    """What the kernel that computes an S6 layer's matrices holds until it has them."""
    together = _together(work)
    if work.on_gpu:
        # Sums over a power of two of tokens, what they are copied to, and one level's products;
        # p and q of all tokens.
        span, d = 1 << (length - 1).bit_length(), layer.channels or 0
        sums = together * (3 * span * span // 2 + length**2) + (2 * together + 1) * span * d
        return _FLOAT * sums + _temporaries(work, together * span * (layer.d_state or 0))
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
