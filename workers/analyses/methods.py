"""Every method by its name, and one text read through its layers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from schemas.names import Method, Mixer
from workers.analyses import attention_weighted, contribution, gradient_guided, rollout
from workers.analyses.checks import Checks
from workers.analyses.maps import Analysis, LayerView, MethodMaps, ReadingPlan, Rollout
from workers.analyses.rollout_row import Descent
from workers.mixers.protocol import MixerTrace, MixerTraces, Summary, Weighting

ANALYSES: dict[Method, Analysis] = {
    Method.ATTENTION_WEIGHTED: attention_weighted.analyse,
    Method.GRADIENT_GUIDED: gradient_guided.analyse,
    Method.CONTRIBUTION: contribution.analyse,
}
"""The methods that read one layer by itself; `rollout` reads all layers up to it."""

_SPREADS = {
    Method.ATTENTION_WEIGHTED: Weighting.PLAIN,
    Method.GRADIENT_GUIDED: Weighting.GRADIENT,
}


@dataclass(frozen=True)
class LayerReading:
    """One layer read; `maps` is empty for a layer that no method reports.

    attributed (d,): sum over tokens of each neuron times d target by it, None where not asked for.
    """

    layer: int
    family: Mixer
    reconstruction_error: Tensor
    maps: dict[Method, MethodMaps]
    attributed: Tensor | None = None


def read_layers(
    mixers: MixerTraces, plan: ReadingPlan, on_read: Callable[[int], None] = lambda layer: None
) -> Iterator[LayerReading]:
    """Read every traced layer; each layer's matrices can then be dropped.

    Layers come in ascending order, but for a rollout of the target's row: it goes downwards, so
    that the reported layers, whose rollout ends at the lowest, come after all others. `on_read` is
    called with each layer once it has been read, wherever it comes.

    For `rollout`, `mixers` must hold every mixer layer up to the highest reported one. Memory: the
    running rollout (l, l) and one layer's matrices, where a method wants any; else a few (l,) rows
    a reported layer.

    Raises ProblemError: trace-mismatch when a trace does not rebuild the mixer's output or a
    matrix its row sums; not-finite when a method's numbers are not.
    """
    needed = [layer for layer in sorted(mixers) if layer in plan.layers or _carries(plan, layer)]
    if plan.reads(Method.ROLLOUT, "target"):
        yield from _downwards(mixers, needed, plan, on_read)
    else:
        yield from _upwards(mixers, needed, plan, on_read)
    for layer in sorted(plan.attributed & mixers.keys()):
        if layer not in needed:
            mixer, checks = mixers[layer], Checks(layer, plan.tolerance)
            summary = _summary(mixer, checks, plan, [])
            on_read(layer)
            yield _reading(mixer, summary, _checked(checks, plan, {}))


def _carries(plan: ReadingPlan, layer: int) -> bool:
    """Whether a rollout goes through the layer."""
    return Method.ROLLOUT in plan.methods and layer < max(plan.layers, default=0)


def _upwards(
    mixers: MixerTraces, layers: list[int], plan: ReadingPlan, on_read: Callable[[int], None]
) -> Iterator[LayerReading]:
    running: Rollout | None = None
    for layer in layers:
        mixer, methods = mixers[layer], _methods(plan, layer)
        checks = Checks(layer, plan.tolerance)
        summary = _summary(mixer, checks, plan, methods)
        view = LayerView(mixer, summary, plan, methods, checks, running)
        maps = {}
        if Method.ROLLOUT in plan.methods:
            running = rollout.advance(view)
            error = view.matrix(Weighting.PLAIN).row_sum_error
            checks.agreement("row-sum error of the mean attention", error)
            if layer in plan.layers:
                maps[Method.ROLLOUT] = rollout.analyse(view, running)
        reading = _reading(mixer, summary, _checked(checks, plan, maps | _own_maps(view)))
        on_read(layer)
        yield reading


def _downwards(
    mixers: MixerTraces, layers: list[int], plan: ReadingPlan, on_read: Callable[[int], None]
) -> Iterator[LayerReading]:
    descent = Descent(plan)
    reported = []
    for layer in reversed(layers):
        mixer, methods = mixers[layer], _methods(plan, layer)
        checks = Checks(layer, plan.tolerance)
        summary = _summary(mixer, checks, plan, methods)
        shares = descent.enter(checks, summary)
        view = LayerView(mixer, summary, plan, methods, checks, shares=shares)
        checks.agreement("row-sum error of the rollout", descent.through(view))
        reading = _reading(mixer, summary, _checked(checks, plan, _own_maps(view)))
        on_read(layer)
        if layer in plan.layers:
            reported.append(reading)
        else:
            yield reading
    for reading in reversed(reported):
        rolled = {Method.ROLLOUT: descent.maps(reading.layer, mixers[reading.layer])}
        checks = Checks(reading.layer, plan.tolerance)
        yield replace(reading, maps=_checked(checks, plan, reading.maps | rolled))


def _methods(plan: ReadingPlan, layer: int) -> list[Method]:
    """The methods that read a layer: all where it is reported, else what leads through it."""
    return [m for m in plan.methods if layer in plan.layers or m is Method.ROLLOUT]


def _summary(
    mixer: MixerTrace, checks: Checks, plan: ReadingPlan, methods: list[Method]
) -> Summary:
    spreads = [_SPREADS[method] for method in methods if method in _SPREADS]
    summary = mixer.summary(spreads, attributed=mixer.layer in plan.attributed)
    checks.agreement("reconstruction error", summary.reconstruction_error)
    return summary


def _own_maps(view: LayerView) -> dict[Method, MethodMaps]:
    """The maps of the methods that read one layer by itself."""
    return {method: ANALYSES[method](view) for method in view.methods if method in ANALYSES}


def _reading(mixer: MixerTrace, summary: Summary, maps: dict[Method, MethodMaps]) -> LayerReading:
    return LayerReading(
        mixer.layer, mixer.family, summary.reconstruction_error, maps, summary.attributed
    )


def _checked(
    checks: Checks, plan: ReadingPlan, maps: dict[Method, MethodMaps]
) -> dict[Method, MethodMaps]:
    """The maps in the order in which their methods were asked for, with all of the layer judged."""
    for method, found in maps.items():
        checks.finite(f"`{method}`", found.tensors())
        checks.agreement(f"row-sum error of `{method}`", found.row_sum_error)
    checks.settle()
    return {method: maps[method] for method in plan.methods if method in maps}
