"""Every method by its name, and one text read through its layers."""

from collections.abc import Iterator
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
    """One layer read; `maps` is empty for a layer that only carried the rollout on."""

    layer: int
    family: Mixer
    reconstruction_error: Tensor
    maps: dict[Method, MethodMaps]


def read_layers(mixers: MixerTraces, plan: ReadingPlan) -> Iterator[LayerReading]:
    """Read every traced layer; each layer's matrices can then be dropped.

    Layers come in ascending order, but for a rollout of the target's row: it goes downwards, so
    that the reported layers, whose rollout ends at the lowest, come after all others.

    For `rollout`, `mixers` must hold every mixer layer up to the highest reported one. Memory: the
    running rollout (l, l) and one layer's matrices, where a method wants any; else a few (l,) rows
    a reported layer.

    Raises ProblemError: trace-mismatch when a trace does not rebuild the mixer's output or a
    matrix its row sums; not-finite when a method's numbers are not.
    """
    if plan.reads(Method.ROLLOUT, "target"):
        return _downwards(mixers, plan)
    return _upwards(mixers, plan)


def _upwards(mixers: MixerTraces, plan: ReadingPlan) -> Iterator[LayerReading]:
    running: Rollout | None = None
    for layer in sorted(mixers):
        mixer, methods = mixers[layer], _methods(plan, layer)
        checks = Checks(layer, plan.tolerance)
        summary = _summary(mixer, checks, methods)
        view = LayerView(mixer, summary, plan, methods, checks, running)
        maps = {}
        if Method.ROLLOUT in plan.methods:
            running = rollout.advance(view)
            error = view.matrix(Weighting.PLAIN).row_sum_error
            checks.agreement("row-sum error of the mean attention", error)
            if layer in plan.layers:
                maps[Method.ROLLOUT] = rollout.analyse(view, running)
        yield _reading(mixer, summary, _checked(checks, plan, maps | _own_maps(view)))


def _downwards(mixers: MixerTraces, plan: ReadingPlan) -> Iterator[LayerReading]:
    descent = Descent(plan)
    reported = []
    for layer in sorted(mixers, reverse=True):
        mixer, methods = mixers[layer], _methods(plan, layer)
        checks = Checks(layer, plan.tolerance)
        summary = _summary(mixer, checks, methods)
        shares = descent.enter(checks, summary)
        view = LayerView(mixer, summary, plan, methods, checks, shares=shares)
        checks.agreement("row-sum error of the rollout", descent.through(view))
        reading = _reading(mixer, summary, _checked(checks, plan, _own_maps(view)))
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


def _summary(mixer: MixerTrace, checks: Checks, methods: list[Method]) -> Summary:
    summary = mixer.summary([_SPREADS[method] for method in methods if method in _SPREADS])
    checks.agreement("reconstruction error", summary.reconstruction_error)
    return summary


def _own_maps(view: LayerView) -> dict[Method, MethodMaps]:
    """The maps of the methods that read one layer by itself."""
    return {method: ANALYSES[method](view) for method in view.methods if method in ANALYSES}


def _reading(mixer: MixerTrace, summary: Summary, maps: dict[Method, MethodMaps]) -> LayerReading:
    return LayerReading(mixer.layer, mixer.family, summary.reconstruction_error, maps)


def _checked(
    checks: Checks, plan: ReadingPlan, maps: dict[Method, MethodMaps]
) -> dict[Method, MethodMaps]:
    """The maps in the order in which their methods were asked for, with all of the layer judged."""
    for method, found in maps.items():
        checks.finite(f"`{method}`", found.tensors())
        checks.agreement(f"row-sum error of `{method}`", found.row_sum_error)
    checks.settle()
    return {method: maps[method] for method in plan.methods if method in maps}
