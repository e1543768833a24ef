"""Every method by its name, and one text read through its layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.names import Method, Mixer
from workers.analyses import attention_weighted, contribution, gradient_guided, rollout
from workers.analyses.checks import require_agreement, require_finite
from workers.analyses.maps import Analysis, ContributionRows, LayerView, MethodMaps, Rollout
from workers.mixers.protocol import MixerTraces

ANALYSES: dict[Method, Analysis] = {
    Method.ATTENTION_WEIGHTED: attention_weighted.analyse,
    Method.GRADIENT_GUIDED: gradient_guided.analyse,
    Method.CONTRIBUTION: contribution.analyse,
}
"""The methods that read one layer by itself; `rollout` reads all layers up to it."""


@dataclass(frozen=True)
class ReadingPlan:
    """How one text is to be read: `layers` are reported, `tolerance` is the self-checks'."""

    layers: frozenset[int]
    methods: Sequence[Method]
    position: int
    tolerance: float
    contribution_rows: ContributionRows = "target"
    rollout_clamp: bool = True

    @property
    def reads_both_matrices(self) -> bool:
        """Whether the methods read the mean attention and the gradient's."""
        mean = {Method.ATTENTION_WEIGHTED, Method.ROLLOUT}
        return Method.GRADIENT_GUIDED in self.methods and not mean.isdisjoint(self.methods)


@dataclass(frozen=True)
class LayerReading:
    """One layer read; `maps` is empty for a layer that only carried the rollout on."""

    layer: int
    family: Mixer
    reconstruction_error: float
    maps: dict[Method, MethodMaps]


def read_layers(mixers: MixerTraces, plan: ReadingPlan) -> Iterator[LayerReading]:
    """Read every traced layer in ascending order; each layer's matrices can then be dropped.

    For `rollout`, `mixers` must hold every mixer layer up to the highest reported one. Memory: the
    running rollout (l, l) and one layer's matrices.

    Raises ProblemError: trace-mismatch when a trace does not rebuild the mixer's output or a
    matrix its row sums; not-finite when a method's numbers are not.
    """
    running: Rollout | None = None
    for layer in sorted(mixers):
        mixer = mixers[layer]
        error = mixer.reconstruction_error()
        require_agreement("reconstruction error", layer, error, plan.tolerance)
        view = LayerView(
            mixer,
            plan.position,
            plan.contribution_rows,
            plan.rollout_clamp,
            running,
            both_matrices=layer in plan.layers and plan.reads_both_matrices,
        )
        if Method.ROLLOUT in plan.methods:
            running = rollout.advance(view)
            what = "row-sum error of the mean attention"
            require_agreement(what, layer, view.mean_attention.row_sum_error, plan.tolerance)
        maps = _maps(view, running, plan) if layer in plan.layers else {}
        yield LayerReading(layer, mixer.family, error, maps)


def _maps(view: LayerView, rolled: Rollout | None, plan: ReadingPlan) -> dict[Method, MethodMaps]:
    found: dict[Method, MethodMaps] = {}
    layer = view.mixer.layer
    for method in plan.methods:
        if method is Method.ROLLOUT and rolled is not None:
            maps = rollout.analyse(view, rolled)
        else:
            maps = ANALYSES[method](view)
        require_finite(f"`{method}`", layer, maps.tensors())
        what = f"row-sum error of `{method}`"
        require_agreement(what, layer, maps.row_sum_error, plan.tolerance)
        found[method] = maps
    return found
