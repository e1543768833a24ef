"""Every method against its float64 twin on random S6 mixers."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from schemas.names import Method
from schemas.problem import ProblemError, ProblemType
from tests.reference import methods as twin
from tests.reference.s6_mixer import Array, MixerRun, sigmoid
from tests.workers.analyses.traces import ExplicitTrace, Sizes, planted, random_mixer, s6_trace
from workers.analyses.maps import MethodMaps, ReadingPlan
from workers.analyses.methods import LayerReading, read_layers
from workers.mixers.protocol import Summary, Weighting
from workers.mixers.s6 import S6Trace

# Float32 rounds each of some thousand terms to 6e-8 of its size, and signs cancel: errors of 1e-6
# of a map's largest entry are usual, so this leaves a factor of fifty and still sees a wrong term.
TOLERANCE = 5e-5

shapes = st.builds(
    Sizes,
    l=st.integers(1, 14),
    d=st.integers(1, 6),
    n=st.integers(1, 5),
    k=st.integers(1, 4),
    m=st.integers(1, 5),
)
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None, derandomize=True)


def plan(methods: list[Method], position: int, **choices: object) -> ReadingPlan:
    facts: dict[str, object] = {"layers": frozenset({0, 1, 2}), "tolerance": 1e-4} | choices
    return ReadingPlan(methods=methods, position=position, **facts)  # type: ignore[arg-type]


def read_one(trace: S6Trace | ExplicitTrace, method: Method, tau: int, **how: object) -> MethodMaps:
    (reading,) = read_layers({0: trace}, plan([method], tau, **how))
    return reading.maps[method]


def close(ours: Tensor, theirs: Array, scale: float = 0.0) -> None:
    scale = max(scale, float(np.abs(theirs).max(initial=0.0)))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.double().numpy(), theirs, rtol=0, atol=TOLERANCE * scale)


def agree(ours: MethodMaps, theirs: twin.TwinMaps) -> None:
    close(ours.matrix, theirs.matrix)
    close(ours.token_relevance, theirs.token_relevance)
    close(ours.neuron_activation, theirs.neuron_activation)
    # A std taken from sums of squares is known to a share of the numbers' size, not of its own.
    close(ours.neuron_importance, theirs.neuron_importance, theirs.spread_over)
    assert (ours.signed_relevance is None) == (theirs.signed_relevance is None)
    if ours.signed_relevance is not None and theirs.signed_relevance is not None:
        close(ours.signed_relevance, theirs.signed_relevance)


def gate_of(run: MixerRun) -> Array:
    return run.gate * sigmoid(run.gate)


@quick
@given(sizes=shapes, seed=seeds, where=st.floats(0, 0.999))
def test_attention_weighted(sizes: Sizes, seed: int, where: float) -> None:
    run, gradient = random_mixer(sizes, seed)
    tau = int(where * sizes.l)
    ours = read_one(s6_trace(run, gradient), Method.ATTENTION_WEIGHTED, tau)
    agree(ours, twin.attention_weighted(run.alpha, run.x, tau))


@quick
@given(sizes=shapes, seed=seeds)
def test_gradient_guided(sizes: Sizes, seed: int) -> None:
    run, gradient = random_mixer(sizes, seed)
    ours = read_one(s6_trace(run, gradient), Method.GRADIENT_GUIDED, 0)
    to_channels = gradient @ run.out_weight * gate_of(run)
    agree(ours, twin.gradient_guided(run.alpha, run.x, to_channels))


@quick
@given(sizes=shapes, seed=seeds, where=st.floats(0, 0.999))
def test_rollout_runs_through_layers_that_are_not_listed(
    sizes: Sizes, seed: int, where: float
) -> None:
    tau = int(where * sizes.l)
    runs = [random_mixer(sizes, seed + index) for index in range(3)]
    traces = {index: s6_trace(*run, layer=index) for index, run in enumerate(runs)}
    chosen = plan([Method.ROLLOUT], tau, layers=frozenset({2}))
    readings = list(read_layers(traces, chosen))
    assert [reading.layer for reading in readings] == [0, 1, 2]
    assert not readings[0].maps
    assert not readings[1].maps
    theirs = twin.rollout([run.alpha for run, _ in runs], runs[2][0].x, tau)
    agree(readings[2].maps[Method.ROLLOUT], theirs)


@quick
@given(sizes=shapes, seed=seeds, where=st.floats(0, 0.999))
def test_contribution(sizes: Sizes, seed: int, where: float) -> None:
    run, gradient = random_mixer(sizes, seed)
    tau = int(where * sizes.l)
    trace = s6_trace(run, gradient)
    vectors = np.array([run.contributions(query) for query in range(sizes.l)])
    y = twin.mixed(run.alpha, run.x) + run.D * run.x
    theirs = twin.contribution(vectors, gradient, run.out_weight, y * gate_of(run), tau)
    every = read_one(trace, Method.CONTRIBUTION, tau, rows=dict.fromkeys(Method, "all"))
    agree(every, theirs)
    assert every.query_positions == list(range(sizes.l))
    row = read_one(trace, Method.CONTRIBUTION, tau)
    assert row.query_positions == [tau]
    close(row.matrix, theirs.matrix[tau : tau + 1])
    assert (row.parameters.rows, every.parameters.rows) == ("target", "all")


@quick
@given(sizes=shapes, seed=seeds)
def test_signed_contributions_and_biases_sum_to_the_outputs_projection(
    sizes: Sizes, seed: int
) -> None:
    run, gradient = random_mixer(sizes, seed)
    tau = sizes.l - 1
    signed = read_one(s6_trace(run, gradient), Method.CONTRIBUTION, tau).signed_relevance
    assert signed is not None
    whole = float((run.output[tau] - run.bias_part(tau)) @ gradient[tau])
    scale = float(np.linalg.norm(run.output[tau]) * np.linalg.norm(gradient[tau])) + 1
    assert abs(float(signed.sum()) - whole) < TOLERANCE * scale


@quick
@given(sizes=shapes, seed=seeds)
def test_rows_of_the_clamped_rollout_are_shares(sizes: Sizes, seed: int) -> None:
    run, gradient = random_mixer(sizes, seed)
    matrix = read_one(s6_trace(run, gradient), Method.ROLLOUT, 0).matrix
    assert float(matrix.min()) >= 0
    # One division and at most 14 float32 additions a row.
    torch.testing.assert_close(matrix.sum(1), torch.ones(sizes.l), rtol=0, atol=2e-6)


def test_a_layer_that_copies_the_previous_token() -> None:
    shift = torch.diag(torch.ones(4), -1)
    maps = read_one(planted(shift), Method.ATTENTION_WEIGHTED, 3)
    assert maps.token_relevance.tolist() == [0, 0, 1, 0, 0]
    # y'[t] = x[t-1]: 0, 1, 2, 3, 4, whose mean is 2.
    assert maps.neuron_activation.tolist() == [2, 2, 2]
    # 4 of 15 causal pairs carry weight 1.
    torch.testing.assert_close(
        maps.neuron_importance, torch.full((3,), (4 / 15 * 11 / 15) ** 0.5, dtype=torch.float64)
    )


def test_two_copying_layers_roll_out_to_a_binomial() -> None:
    shift = torch.diag(torch.ones(4), -1)
    traces = {index: planted(shift, index) for index in range(2)}
    first, second = read_layers(traces, plan([Method.ROLLOUT], 4))
    assert first.maps[Method.ROLLOUT].token_relevance.tolist() == [0, 0, 0, 0.5, 0.5]
    assert second.maps[Method.ROLLOUT].token_relevance.tolist() == [0, 0, 0.25, 0.5, 0.25]


def test_the_clamp_of_rollout_is_a_choice() -> None:
    negative = -0.5 * torch.diag(torch.ones(2), -1)
    clamped = read_one(planted(negative), Method.ROLLOUT, 2)
    assert clamped.token_relevance.tolist() == [0, 0, 1]
    assert clamped.parameters.clamp == "negative-to-zero"
    kept = read_one(planted(negative), Method.ROLLOUT, 2, rollout_clamp=False)
    assert kept.token_relevance.tolist() == [0, -1, 2]
    assert kept.parameters.clamp == "none"


def test_an_unclamped_row_that_cancels_fails_and_says_what_to_do() -> None:
    cancelling = -torch.diag(torch.ones(2), -1)
    with pytest.raises(ProblemError, match="rollout_clamp") as failed:
        read_one(planted(cancelling), Method.ROLLOUT, 2, rollout_clamp=False)
    assert failed.value.kind is ProblemType.NOT_FINITE


def test_attention_that_underflows_everywhere_is_zero_and_rollout_the_identity() -> None:
    nothing = torch.zeros(4, 4)
    traces = {0: planted(nothing)}
    (reading,) = read_layers(traces, plan(list(Method), 2))
    assert all(m.row_sum_error == 0.0 for m in reading.maps.values())
    assert torch.equal(reading.maps[Method.ROLLOUT].matrix, torch.eye(4, dtype=torch.float64))
    assert float(reading.maps[Method.GRADIENT_GUIDED].token_relevance.abs().sum()) == 0


@pytest.mark.parametrize("method", list(Method))
def test_a_text_of_one_token(method: Method) -> None:
    maps = read_one(planted(torch.tensor([[2.0]])), method, 0)
    expected = {
        Method.ATTENTION_WEIGHTED: 2.0,
        Method.GRADIENT_GUIDED: 2.0,
        Method.ROLLOUT: 1.0,
        Method.CONTRIBUTION: 12**0.5,
    }
    assert maps.token_relevance.tolist() == pytest.approx([expected[method]])


@pytest.mark.parametrize("method", [Method.ATTENTION_WEIGHTED, Method.GRADIENT_GUIDED])
def test_the_one_pair_of_one_token_has_no_spread(method: Method) -> None:
    trace = s6_trace(*random_mixer(Sizes(l=1, d=5, n=3, k=2, m=4), 0))
    assert read_one(trace, method, 0).neuron_importance.tolist() == [0.0] * 5


@pytest.mark.parametrize(
    ("methods", "passes"),
    [
        ([Method.CONTRIBUTION], []),
        ([Method.ATTENTION_WEIGHTED, Method.ROLLOUT], [1]),
        ([Method.GRADIENT_GUIDED], [1]),
        ([Method.GRADIENT_GUIDED, Method.ATTENTION_WEIGHTED], [2]),
        ([Method.ROLLOUT, Method.GRADIENT_GUIDED], [2]),
    ],
)
def test_one_pass_computes_the_matrices_that_the_methods_read(
    methods: list[Method], passes: list[int]
) -> None:
    seen: list[int] = []

    class Counting(ExplicitTrace):
        def matrices(self, weightings: Sequence[Weighting]) -> list[Tensor]:
            seen.append(len(weightings))
            return super().matrices(weightings)

    given_trace = Counting(**vars(planted(torch.eye(3))))
    list(read_layers({0: given_trace}, plan(methods, 2)))
    assert seen == passes


def test_a_layer_that_only_carries_the_rollout_on_computes_no_gradient_matrix() -> None:
    seen: list[int] = []

    class Counting(ExplicitTrace):
        def matrices(self, weightings: Sequence[Weighting]) -> list[Tensor]:
            seen.append(len(weightings))
            return super().matrices(weightings)

    traces = {0: Counting(**vars(planted(torch.eye(2)))), 1: planted(torch.eye(2), layer=1)}
    methods = [Method.ROLLOUT, Method.GRADIENT_GUIDED]
    list(read_layers(traces, plan(methods, 1, layers=frozenset({1}))))
    assert seen == [1]


def test_methods_that_need_the_gradient_say_so() -> None:
    untraced = ExplicitTrace(**(vars(planted(torch.eye(2))) | {"output_gradient": None}))
    for method in (Method.GRADIENT_GUIDED, Method.CONTRIBUTION):
        with pytest.raises(ValueError, match="not traced"):
            read_one(untraced, method, 1)


def readings(trace: ExplicitTrace, methods: list[Method]) -> list[LayerReading]:
    return list(read_layers({5: trace}, plan(methods, 1, layers=frozenset({5}))))


def test_a_trace_that_does_not_rebuild_the_output_fails() -> None:
    broken = ExplicitTrace(**(vars(planted(torch.eye(2), layer=5)) | {"error": 2e-4}))
    with pytest.raises(ProblemError, match=r"Layer 5: the reconstruction error is 0\.0002") as got:
        readings(broken, [])
    assert got.value.kind is ProblemType.TRACE_MISMATCH


@pytest.mark.parametrize(
    "method", [Method.ATTENTION_WEIGHTED, Method.GRADIENT_GUIDED, Method.ROLLOUT]
)
def test_a_matrix_whose_rows_do_not_add_up_fails(method: Method) -> None:
    class Wrong(ExplicitTrace):
        def matrices(self, weightings: Sequence[Weighting]) -> list[Tensor]:
            return [matrix * 1.001 for matrix in super().matrices(weightings)]

    wrong = Wrong(**vars(planted(torch.eye(2), layer=5)))
    with pytest.raises(ProblemError, match=r"Layer 5: the row-sum error") as got:
        readings(wrong, [method])
    assert got.value.kind is ProblemType.TRACE_MISMATCH


def test_a_rollout_is_checked_at_layers_that_are_not_listed() -> None:
    class Wrong(ExplicitTrace):
        def _row_sums(self, weighted: Tensor) -> Tensor:
            return super()._row_sums(weighted) * 1.001

    traces = {0: Wrong(**vars(planted(torch.eye(2)))), 1: planted(torch.eye(2), layer=1)}
    with pytest.raises(ProblemError, match="Layer 0: the row-sum error"):
        list(read_layers(traces, plan([Method.ROLLOUT], 1, layers=frozenset({1}))))


def test_numbers_that_are_not_finite_fail() -> None:
    class Overflown(ExplicitTrace):
        def summary(self, spreads: Collection[Weighting] = (), attributed: bool = False) -> Summary:
            found = super().summary(spreads, attributed)
            return replace(found, spreads={k: std / 0 for k, std in found.spreads.items()})

    overflown = Overflown(**vars(planted(torch.diag(torch.ones(1), -1) + 1, layer=5)))
    with pytest.raises(ProblemError, match="Layer 5: the neuron_importance of") as got:
        readings(overflown, [Method.ATTENTION_WEIGHTED])
    assert got.value.kind is ProblemType.NOT_FINITE
