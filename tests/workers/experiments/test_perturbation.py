"""Whole perturbations: planted answers, the self-check, what is refused."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.names import Block, Dtype, Intervening
from schemas.perturbation import Effect, PerturbationAnalysis, RandomEffect
from schemas.problem import ProblemError, ProblemType
from schemas.sections import Intervention, NeuronRef, NeuronSet, PerturbationSection
from tests.tiny_architectures import ARCHITECTURES
from tests.tiny_models import one_thread, save_gpt2, save_mamba
from tests.workers.experiments.models import MIXER, MLP, loaded_from, pool_of
from workers.experiments.perturbation import checked_sets, measured_moments, perturb
from workers.models.loading import LoadedModel
from workers.traces import TraceRequest

TEXTS = [
    TraceRequest((3, 1, 4, 1, 5, 9, 2, 6)),
    TraceRequest((8, 2, 8), text=1),
    TraceRequest(tuple(range(1, 31)), position=-4, token=11, contrast=2, text=2),
]
CONTROLS = [TraceRequest((30, 31, 32, 33)), TraceRequest((34, 35), text=1)]
ALL = [
    Intervention(kind=Intervening.ZERO),
    Intervention(kind=Intervening.MEAN),
    Intervention(kind=Intervening.NOISE),
    Intervention(kind=Intervening.SCALE, factor=2.0),
]
SAME = [Intervention(kind=Intervening.SCALE, factor=1.0)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded_from(tmp_path_factory.mktemp("models"), save_mamba)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded_from(tmp_path_factory.mktemp("models"), save_gpt2)


def neurons(layer: int, indices: Sequence[int], block: Block = MIXER) -> list[NeuronRef]:
    return [NeuronRef(layer=layer, block=block, neuron=index) for index in indices]


def perturbed(
    loaded: LoadedModel,
    sets: Sequence[Sequence[NeuronRef]],
    interventions: Sequence[Intervention] = ALL,
    texts: Sequence[TraceRequest] = TEXTS,
    controls: Sequence[TraceRequest] = (),
    random_sets: int = 6,
    **more: Any,
) -> PerturbationAnalysis:
    section = PerturbationSection(
        sets=[NeuronSet(neurons=list(each)) for each in sets],
        interventions=list(interventions),
        random_sets=random_sets,
    )
    options: dict[str, Any] = {"moments": {}, "seed": 0, "room": 1 << 30, **more}
    options.setdefault("tell", lambda fraction, detail: None)
    return perturb(loaded, section, sets, texts, controls, pool=pool_of(loaded), **options)


def values(effect: Effect | RandomEffect | None) -> list[float]:
    assert effect is not None
    found: list[float] = []
    for value in effect.model_dump().values():
        found += value.values() if isinstance(value, dict) else [value]
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_factor_of_one_changes_nothing_and_zero_does(architecture: str, tmp_path: Path) -> None:
    loaded = loaded_from(tmp_path, ARCHITECTURES[architecture][0])
    sites = pool_of(loaded)
    every = [neurons(site.layer, range(site.neurons), site.block) for site in sites]
    found = perturbed(loaded, every, [*SAME, ALL[0]], TEXTS, CONTROLS, random_sets=2)
    assert len(found.results) == 2 * len(sites)
    for same, zero in zip(found.results[::2], found.results[1::2], strict=True):
        for effect in (same.effect, same.control):
            assert effect is not None
            # Float32 rounding of logits up to about ten; other rows of a pass sum in another order.
            assert values(effect) == pytest.approx([0, 0, 0, 0, 1], abs=5e-5)
        assert zero.effect.divergence > 1e-6
        assert abs(zero.effect.logit) > 1e-3
    # Without room for streams every pass begins at the first layer.
    whole = perturbed(loaded, every, ALL[:1], TEXTS[-1:], random_sets=2, room=1)
    begun = perturbed(loaded, every, ALL[:1], TEXTS[-1:], random_sets=2)
    for one, two in zip(whole.results, begun.results, strict=True):
        assert values(one.effect) == pytest.approx(values(two.effect), rel=1e-4, abs=5e-5)


def plant(loaded: LoadedModel, block: Block, neuron: int) -> None:
    """Make one neuron of the last layer answer the first text, with what was least probable."""
    site = next(s for s in reversed(pool_of(loaded)) if s.block is block)
    ids = TEXTS[0].ids
    seen: list[float] = []
    hook = site.projection.register_forward_pre_hook(
        lambda _, args: seen.append(float(args[0].reshape(-1, args[0].shape[-1])[-1, neuron]))
    )
    logits = loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
    hook.remove()
    # Its embedding may be the head's: one of the text's own tokens would change the text.
    logits[list(ids)] = torch.inf
    head, token = loaded.model.get_output_embeddings().weight, int(logits.argmin())
    head[token] *= 5
    weight: Any = site.projection.weight
    row = weight[neuron] if block is MLP else weight[:, neuron]
    row.copy_(300 * head[token] / head[token].norm() / seen[0])


@pytest.mark.parametrize(("save", "block"), [(save_mamba, MIXER), (save_gpt2, MLP)])
def test_a_neuron_that_holds_the_answer_stands_far_outside_the_random_sets(
    save: Any, block: Block, tmp_path: Path
) -> None:
    loaded = loaded_from(tmp_path, save)
    layer = pool_of(loaded)[-1].layer
    plant(loaded, block, neuron=7)
    # With it neurons that hold nothing.
    held, others = neurons(layer, [3, 7, 21], block), neurons(layer, [3, 8, 21], block)
    found = perturbed(loaded, [held, others], ALL[:1], TEXTS[:1], random_sets=20)
    own, other = found.results
    assert found.baseline_probability > 0.99
    assert own.effect.probability < -0.5
    assert own.effect.divergence > 1
    assert own.more_extreme <= 0.3  # 3 of some 90 neurons are drawn, so the planted one at times
    assert other.effect.probability > -0.1
    assert own.effect.probability < own.random.probability.low - 0.2
    assert other.effect.probability > other.random.probability.low - 0.2


def test_control_texts_are_untouched_by_a_neuron_of_one_token(tmp_path: Path) -> None:
    loaded = loaded_from(tmp_path, save_gpt2)
    model, token, neuron = loaded.model.transformer, 9, 5
    block = model.h[0]
    # The first MLP sees each token by itself, and the neuron is on for one of them alone.
    model.wpe.weight.zero_()
    for name in ("weight", "bias"):
        getattr(block.attn.c_proj, name).zero_()
    seen = block.ln_2(model.wte.weight)
    block.mlp.c_fc.weight[:, neuron] = 100 * seen[token]
    others = torch.cat([seen[:token], seen[token + 1 :]])
    block.mlp.c_fc.bias[neuron] = -50 * ((others @ seen[token]).max() + seen[token].norm() ** 2)
    block.mlp.c_proj.weight[neuron] *= 0.1
    found = perturbed(
        loaded,
        [neurons(0, [neuron], MLP)],
        ALL[:1],
        [TraceRequest((3, 1, 4, 1, 5, 2, 6, token))],
        CONTROLS,
        random_sets=20,
    )
    [result] = found.results
    assert result.control is not None
    assert result.random_control is not None
    assert abs(result.effect.logit) > 0.1
    assert values(result.control) == pytest.approx([0, 0, 0, 0, 1], abs=1e-5)
    assert max(map(abs, values(result.random_control)[:3])) > 1e-3


def test_every_part_follows_the_request(gpt2: LoadedModel) -> None:
    sets = [neurons(0, [1, 2]), neurons(1, [5], MLP) + neurons(0, [0, 7], MLP)]
    found = perturbed(gpt2, sets, ALL, TEXTS, CONTROLS)
    assert [each.neurons for each in found.sets] == sets
    order = [(r.set_index, r.intervention_index, r.intervention.kind) for r in found.results]
    assert order == [(i, j, kind.kind) for i in range(2) for j, kind in enumerate(ALL)]
    assert found.control_probability is not None
    for result in found.results:
        assert result.random_sets == 6
        assert result.random.probability.low <= result.random.probability.high
        assert 0 <= result.more_extreme <= 1
        assert result.control is not None
        assert result.control != result.effect
    without = perturbed(gpt2, sets, ALL, TEXTS)
    assert (without.control_loss, without.control_probability) == (None, None)
    assert [r.control for r in without.results] == [None] * 8
    assert [r.random_control for r in without.results] == [None] * 8
    assert values(without.results[0].effect) == pytest.approx(
        values(found.results[0].effect), abs=5e-5
    )


def test_results_depend_on_the_seed_and_not_on_the_room(mamba: LoadedModel) -> None:
    sets = [neurons(0, [1, 2]), neurons(2, [40])]
    first, again = perturbed(mamba, sets), perturbed(mamba, sets)
    assert first == again
    small, other = perturbed(mamba, sets, room=1), perturbed(mamba, sets, seed=1)
    for one, two, three in zip(first.results, small.results, other.results, strict=True):
        assert values(one.effect) == pytest.approx(values(two.effect), abs=5e-5)
        assert values(one.random) == pytest.approx(values(two.random), abs=2e-4)
        assert values(one.random) != pytest.approx(values(three.random), abs=1e-3)
        if one.intervention.kind is Intervening.NOISE:
            assert values(one.effect) != pytest.approx(values(three.effect), abs=1e-4)
        else:
            assert values(one.effect) == pytest.approx(values(three.effect), abs=5e-5)


def test_a_set_of_whole_blocks_stands_beside_itself(mamba: LoadedModel) -> None:
    passed: list[str] = []
    found = perturbed(
        mamba, [neurons(1, range(96))], tell=lambda fraction, detail: passed.append(detail)
    )
    for result in found.results:
        for name, value in result.effect.model_dump().items():
            interval = getattr(result.random, name)
            assert (interval.mean, interval.low, interval.high) == pytest.approx((value,) * 3)
        assert result.more_extreme == 1.0
    # One set alone: three texts, in two groups, unchanged and under four interventions.
    assert len(passed) == 2 * (1 + len(ALL))


def test_moments_that_are_not_given_are_measured(gpt2: LoadedModel) -> None:
    sets = [neurons(0, [1, 2], MLP), neurons(1, [3])]
    moments = measured_moments(gpt2, pool_of(gpt2), TEXTS, 1 << 30)
    site = next(s for s in pool_of(gpt2) if s.place == (1, MIXER))
    seen: list[torch.Tensor] = []
    hook = site.projection.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    for text in TEXTS:
        gpt2.model(input_ids=torch.tensor([text.ids]))
    hook.remove()
    tokens = torch.cat(seen).double()
    torch.testing.assert_close(moments[1, MIXER].mean, tokens.mean(0), rtol=1e-5, atol=1e-6)
    std = tokens.std(0, correction=0)
    torch.testing.assert_close(moments[1, MIXER].std, std, rtol=1e-4, atol=1e-6)
    given = perturbed(gpt2, sets, ALL[1:3], moments=moments)
    found = perturbed(gpt2, sets, ALL[1:3])
    for one, two in zip(given.results, found.results, strict=True):
        assert values(one.effect) == pytest.approx(values(two.effect), abs=1e-6)


def test_it_tells_how_far_it_is_before_each_pass(mamba: LoadedModel) -> None:
    told: list[float] = []
    perturbed(
        mamba,
        [neurons(0, [1])],
        controls=CONTROLS,
        room=1,
        tell=lambda fraction, detail: told.append(fraction),
    )
    assert told[0] == 0.0
    assert told == sorted(told)
    assert len(set(told)) == len(told) == 5 * (1 + 7 * 4)
    assert 0.9 < told[-1] < 1.0


def test_texts_of_a_single_token_have_no_loss(mamba: LoadedModel) -> None:
    single = [TraceRequest((7,)), TraceRequest((9,), text=1)]
    found = perturbed(mamba, [neurons(0, [1])], ALL, single, single)
    assert (found.baseline_loss, found.control_loss) == (None, None)
    for result in found.results:
        assert (result.effect.loss, result.effect.perplexity) == (None, None)
        assert (result.random.loss, result.random.perplexity) == (None, None)


def test_a_model_in_bfloat16_is_changed_too(tmp_path: Path) -> None:
    half = loaded_from(tmp_path, save_mamba, Dtype.BFLOAT16)
    found = perturbed(half, [neurons(0, range(20))], [*SAME, *ALL], room=1)
    # Alone in its pass each row is the same sums in the same order.
    assert values(found.results[0].effect) == [0, 0, 0, 0, 1]
    for result in found.results[1:]:
        assert result.effect.divergence > 1e-5


def test_what_cannot_be_intervened_on_is_refused(mamba: LoadedModel) -> None:
    for sets, words in (
        ([[]], "without neurons"),
        ([neurons(0, [1, 2, 1])], "twice"),
        ([neurons(0, [96])], "no neuron"),
        ([neurons(0, [1], MLP)], "no neuron"),
    ):
        section = PerturbationSection(sets=[NeuronSet(neurons=neurons(0, [0]))])
        with pytest.raises(ValueError, match=words):
            perturb(
                mamba, section, sets, TEXTS, [], {}, pool_of(mamba), 0, 1, lambda done, what: None
            )
    with pytest.raises(ValueError, match="not the 1 of the section"):
        perturb(mamba, section, [], TEXTS, [], {}, pool_of(mamba), 0, 1, lambda done, what: None)
    with pytest.raises(ValueError, match="without texts"):
        perturbed(mamba, [neurons(0, [1])], texts=[])


def test_neurons_that_a_loaded_model_has_not_are_named(mamba: LoadedModel) -> None:
    fine = neurons(0, [0, 95])
    wrong = [*fine, *neurons(2, [96]), *neurons(1, [0], MLP)]
    section = PerturbationSection(
        sets=[NeuronSet(neurons=fine), NeuronSet(found_by="variance"), NeuronSet(neurons=wrong)]
    )
    with pytest.raises(ProblemError) as raised:
        checked_sets(mamba, section)
    assert raised.value.kind is ProblemType.INVALID_REQUEST
    errors = {error.pointer: error.detail for error in raised.value.problem.errors}
    assert errors.keys() == {
        "/perturbation/sets/2/neurons/2/neuron",
        "/perturbation/sets/2/neurons/3/block",
    }
    assert "0 to 95" in errors["/perturbation/sets/2/neurons/2/neuron"]
    sound = PerturbationSection(sets=section.sets[:2])
    assert checked_sets(mamba, sound) == {0: fine}
