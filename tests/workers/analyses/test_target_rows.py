"""`rows: "target"` gives what `rows: "all"` gives, of fewer rows, from pieces of the text."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from schemas import pieces
from schemas.names import Method
from schemas.problem import ProblemError, ProblemType
from tests.reference import methods as twin
from tests.workers.analyses.traces import ExplicitTrace, Sizes, planted, random_mixer, s6_trace
from workers.analyses.maps import MethodMaps, ReadingPlan
from workers.analyses.methods import read_layers
from workers.mixers import s6
from workers.mixers.protocol import Read

PIECE = 8
# Both sides round some thousand float32 terms, whose signs cancel: errors of 1e-6 of a map's
# largest entry are usual. A wrong border moves whole terms.
TOLERANCE = 2e-5

shapes = st.builds(
    Sizes,
    # Up to three pieces, and whatever can go wrong at their borders.
    l=st.one_of(st.integers(1, 26), st.sampled_from([PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1])),
    d=st.integers(1, 6),
    n=st.integers(1, 5),
    # A convolution may reach over more than one piece.
    k=st.integers(1, PIECE + 3),
    m=st.integers(1, 5),
)
seeds = st.integers(0, 2**32 - 1)
somewhere = st.floats(0, 0.999)
quick = settings(max_examples=40, deadline=None, derandomize=True)
EVERY = frozenset({0, 1, 2})


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "READ", PIECE)


def layers(sizes: Sizes, seed: int) -> dict[int, s6.S6Trace]:
    """Three layers of one text, each with a trace that has recomputed nothing yet."""
    runs = [random_mixer(sizes, seed + index) for index in range(3)]
    return {index: s6_trace(*run, layer=index) for index, run in enumerate(runs)}


def read(
    traces: dict[int, s6.S6Trace],
    rows: str,
    tau: int,
    methods: Sequence[Method] = tuple(Method),
    clamp: bool = True,
) -> dict[int, dict[Method, MethodMaps]]:
    plan = ReadingPlan(EVERY, methods, tau, 1e-4, dict.fromkeys(Method, rows), clamp)  # type: ignore[arg-type]
    return {reading.layer: reading.maps for reading in read_layers(traces, plan)}


def close(ours: Tensor, theirs: Tensor, scale: float = 0.0) -> None:
    assert ours.shape == theirs.shape
    scale = max(scale, float(theirs.abs().max()))
    assert float((ours - theirs).abs().max()) <= TOLERANCE * scale


def same(target: MethodMaps, every: MethodMaps, tau: int) -> None:
    """Every number that the target's row alone can tell."""
    assert target.query_positions == [tau]
    assert (target.parameters.rows, every.parameters.rows) == ("target", "all")
    scale = float(every.matrix.abs().max())
    close(target.matrix[0], every.matrix[tau], scale)
    # A column sum adds up rows whose signs cancel.
    close(target.token_relevance, every.token_relevance, float(every.matrix.abs().sum(0).max()))
    close(target.neuron_activation, every.neuron_activation)
    if target.bias_relevance is not None and every.bias_relevance is not None:
        wanted = pytest.approx(float(every.bias_relevance), rel=1e-4, abs=1e-5)
        assert float(target.bias_relevance) == wanted
    if target.neuron_importance is not None and every.neuron_importance is not None:
        close(target.neuron_importance, every.neuron_importance)
    if target.signed_relevance is not None and every.signed_relevance is not None:
        close(target.signed_relevance, every.signed_relevance)


@quick
@given(sizes=shapes, seed=seeds, where=somewhere)
def test_the_targets_row_is_that_of_the_whole_matrix(sizes: Sizes, seed: int, where: float) -> None:
    tau = int(where * sizes.l)
    target = read(layers(sizes, seed), "target", tau)
    every = read(layers(sizes, seed), "all", tau)
    assert target.keys() == every.keys() == EVERY
    for layer, maps in target.items():
        assert list(maps) == list(Method)
        for method, found in maps.items():
            same(found, every[layer][method], tau)
            missing = found.neuron_importance is None
            assert missing == (method is Method.ROLLOUT)


@quick
@given(sizes=shapes, seed=seeds, where=somewhere)
def test_an_unclamped_rollout_needs_no_matrix(sizes: Sizes, seed: int, where: float) -> None:
    class NoMatrix(s6.S6Trace):
        def matrices(self, weightings: object) -> list[Tensor]:
            raise AssertionError("a matrix was asked for")

    tau = int(where * sizes.l)
    traces = layers(sizes, seed)
    strict = {layer: NoMatrix(**fields(trace)) for layer, trace in traces.items()}
    try:
        every = read(traces, "all", tau, [Method.ROLLOUT], clamp=False)
        target = read(strict, "target", tau, list(Method), clamp=False)
    except ProblemError as problem:
        # Row sums that all but cancel; the next test is about them.
        assert problem.kind is ProblemType.NOT_FINITE
        return
    for layer, maps in target.items():
        found, whole = maps[Method.ROLLOUT], every[layer][Method.ROLLOUT]
        # Rounding grows with each division by a small row sum, at most to what the rows grow to.
        scale = float(whole.matrix.abs().max()) ** 2
        close(found.token_relevance, whole.token_relevance, scale)
        close(found.neuron_activation, whole.neuron_activation, scale * 10)


def fields(trace: s6.S6Trace) -> dict[str, object]:
    return {"weights": trace.weights, "capture": trace.capture}


@quick
@given(sizes=shapes, seed=seeds, where=somewhere)
def test_the_targets_row_against_the_twin(sizes: Sizes, seed: int, where: float) -> None:
    tau = int(where * sizes.l)
    runs = [random_mixer(sizes, seed + index)[0] for index in range(3)]
    found = read(layers(sizes, seed), "target", tau)[2][Method.ROLLOUT]
    theirs = twin.rollout([run.alpha for run in runs], runs[2].x, tau)
    close(found.token_relevance, torch.tensor(theirs.token_relevance, dtype=torch.float32))
    close(found.neuron_activation, torch.tensor(theirs.neuron_activation, dtype=torch.float32))


def test_several_reported_layers_come_last_and_ascending() -> None:
    traces = {index: planted(torch.diag(torch.ones(4), -1), index) for index in range(4)}
    plan = ReadingPlan(
        frozenset({1, 3}), [Method.ROLLOUT], 4, 1e-4, dict.fromkeys(Method, "target")
    )
    readings = list(read_layers(traces, plan))
    assert [reading.layer for reading in readings] == [2, 0, 1, 3]
    # Each layer copies the token before with half the weight: a binomial over the lags.
    rolled = {r.layer: r.maps[Method.ROLLOUT].token_relevance.tolist() for r in readings[2:]}
    assert rolled[1] == [0, 0, 0.25, 0.5, 0.25]
    assert rolled[3] == [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16]


def test_an_unclamped_row_that_cancels_fails_and_says_what_to_do() -> None:
    traces = {0: planted(-torch.diag(torch.ones(2), -1))}
    plan = ReadingPlan(
        frozenset({0}), [Method.ROLLOUT], 2, 1e-4, dict.fromkeys(Method, "target"), False
    )
    with pytest.raises(ProblemError, match="rollout_clamp") as failed:
        list(read_layers(traces, plan))
    assert failed.value.kind is ProblemType.NOT_FINITE


@pytest.mark.parametrize(
    ("method", "clamp"),
    [
        (Method.ATTENTION_WEIGHTED, True),
        (Method.GRADIENT_GUIDED, True),
        (Method.ROLLOUT, False),
    ],
)
def test_a_row_that_does_not_add_up_fails(method: Method, clamp: bool) -> None:
    class Wrong(ExplicitTrace):
        def read(self, reads: Sequence[Read], stop: int) -> list[Tensor]:
            return [rows * 1.001 for rows in super().read(reads, stop)]

    traces = {0: Wrong(**vars(planted(torch.ones(3, 3) / 3)))}
    plan = ReadingPlan(frozenset({0}), [method], 1, 1e-4, dict.fromkeys(Method, "target"), clamp)
    with pytest.raises(ProblemError, match="Layer 0: the row-sum error") as failed:
        list(read_layers(traces, plan))
    assert failed.value.kind is ProblemType.TRACE_MISMATCH


def test_a_text_of_several_pieces_keeps_none_of_them() -> None:
    trace = layers(Sizes(l=3 * PIECE, d=3, n=2, k=4, m=3), 0)[0]
    plan = ReadingPlan(
        frozenset({0}), list(Method), 20, 1e-4, dict.fromkeys(Method, "target"), False
    )
    list(read_layers({0: trace}, plan))
    assert "whole" not in vars(trace)
    assert not any(isinstance(value, Tensor) and value.ndim for value in vars(trace).values())
