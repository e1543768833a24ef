"""Universality against numpy's correlations, and where it is known which neurons are shared."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from schemas.names import Block
from schemas.problem import ProblemError, ProblemType
from schemas.sections import NeuronRef
from schemas.universality import Universality, UniversalPair
from workers.analyses import universality as module
from workers.analyses.neuron_samples import ModelSample
from workers.analyses.universality import mixing, shuffling, universality

Floats = NDArray[np.float64]
MIXER, MLP = Block.MIXER, Block.MLP
# Products of rows of length 1 over a few hundred tokens, in float32.
CLOSE = 2e-6


def sample(model: str, *blocks: Floats, layers: Sequence[int] = range(9)) -> ModelSample:
    """The blocks (n, d), each the mixer of a layer."""
    tensors = [torch.tensor(block, dtype=torch.float32) for block in blocks]
    found = ((layer, MIXER, tensor) for layer, tensor in zip(layers, tensors, strict=False))
    return ModelSample.of(model, len(blocks[0]), found)


def draw(seed: int, tokens: int, width: int) -> Floats:
    return np.random.default_rng(seed).standard_normal((tokens, width))


def pair_of(found: Universality, *models: str) -> UniversalPair:
    return next(pair for pair in found.pairs if pair.models == models)


def correlations(one: Floats, other: Floats) -> Floats:
    """(d of one, d of other), in float64."""
    width = one.shape[1]
    return np.corrcoef(one.astype(np.float32).T, other.astype(np.float32).T)[:width, width:]


def twin(seed: int, ours: Sequence[Floats], theirs: ModelSample, raw: Sequence[Floats]) -> Floats:
    """The baseline of all of our neurons: their raw activations, mixed and correlated by numpy."""
    turned = [
        block @ np.concatenate(list(mixing(seed, theirs.model, known))).T.astype(np.float64)
        for block, known in zip(raw, theirs.blocks, strict=True)
    ]
    return correlations(np.concatenate(ours, 1), np.concatenate(turned, 1)).max(1)


def listed(pair: UniversalPair, field: str) -> list[float]:
    return [value for block in pair.blocks for value in getattr(block, field)]


# Blocks of one product, and blocks that are cut into many.
@pytest.mark.parametrize("at_once", [1 << 22, 64])
def test_against_numpy(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "_CORRELATIONS", at_once)
    monkeypatch.setattr(module, "_DRAWN", at_once // 8)
    # Means and deviations of very different size, as neurons have them.
    scales = 10 ** np.random.default_rng(9).uniform(-3, 3, 30)
    a = [draw(1, 200, 20) + 100, draw(2, 200, 30) * scales - 5]
    b = [draw(3, 200, 10), draw(4, 200, 25) * 1e-3, draw(5, 200, 7) + a[0][:, :7]]
    one, other = sample("a", *a), sample("b", *b, layers=(2, 4, 6))
    found = universality([one, other], 0.5, seed=3)
    truth = correlations(np.concatenate(a, 1), np.concatenate(b, 1))
    places = [(2, i) for i in range(10)] + [(4, i) for i in range(25)] + [(6, i) for i in range(7)]
    mine = [(0, i) for i in range(20)] + [(1, i) for i in range(30)]

    forth, back = pair_of(found, "a", "b"), pair_of(found, "b", "a")
    np.testing.assert_allclose(listed(forth, "max_correlation"), truth.max(1), atol=CLOSE)
    np.testing.assert_allclose(listed(back, "max_correlation"), truth.max(0), atol=CLOSE)
    np.testing.assert_allclose(listed(forth, "baseline"), twin(3, a, other, b), atol=CLOSE)
    np.testing.assert_allclose(listed(back, "baseline"), twin(3, b, one, a), atol=CLOSE)
    matches = [(ref.layer, ref.neuron) for ref in listed(forth, "best_match")]
    assert matches == [places[place] for place in truth.argmax(1)]
    matches = [(ref.layer, ref.neuron) for ref in listed(back, "best_match")]
    assert matches == [mine[place] for place in truth.argmax(0)]
    assert [(block.layer, block.num_neurons) for block in back.blocks] == [(2, 10), (4, 25), (6, 7)]


def test_half_of_the_neurons_planted_in_another_order() -> None:
    """Exactly the planted half is universal, and each is matched with its copy, both ways."""
    tokens, width = 512, 200
    source = np.random.default_rng(0)
    a = draw(1, tokens, width)
    order = source.permutation(width)
    b = a[:, order] + 0.5 * draw(2, tokens, width)
    strangers = order >= width // 2
    b[:, strangers] = draw(3, tokens, int(strangers.sum()))
    found = universality([sample("a", a), sample("b", b)], 0.5, seed=0)

    [block] = pair_of(found, "a", "b").blocks
    universal = np.array(block.max_correlation) - np.array(block.baseline) > 0.5
    np.testing.assert_array_equal(universal, np.arange(width) < width // 2)
    place = np.argsort(order)
    for neuron in range(width // 2):
        assert block.best_match[neuron] == NeuronRef(layer=0, neuron=int(place[neuron]))
    [back] = pair_of(found, "b", "a").blocks
    for neuron in np.flatnonzero(~strangers):
        assert back.best_match[neuron] == NeuronRef(layer=0, neuron=int(order[neuron]))
    assert block.fraction_universal == back.fraction_universal == 0.5
    assert pair_of(found, "a", "b").fraction_universal == 0.5
    assert pair_of(found, "a", "b").fraction_by_chance == block.fraction_by_chance == 0.0


def test_a_neuron_with_the_opposite_sign_is_another_neuron() -> None:
    a, rest = draw(1, 300, 1), draw(2, 300, 20)
    found = universality([sample("a", a), sample("b", np.hstack([-a, rest]))], 0.5, seed=0)
    [block] = pair_of(found, "a", "b").blocks
    assert block.max_correlation[0] < 0.4
    assert block.best_match[0] != NeuronRef(layer=0, neuron=0)


@pytest.mark.parametrize("shared", [False, True])
def test_in_a_basis_that_means_nothing_there_is_no_excess(shared: bool) -> None:
    """Also where the models compute the same, but each in directions of its own."""
    tokens, width = 400, 120
    latent = draw(1, tokens, width) * np.linspace(0.1, 3, width)
    own = latent if shared else draw(2, tokens, width) * np.linspace(0.1, 3, width)
    a, b = latent @ draw(3, width, width), own @ draw(4, width, width)
    for seed in range(3):
        for pair in universality([sample("a", a), sample("b", b)], 0.5, seed).pairs:
            # Of one neuron the excess varies by about 0.04, and neurons of a model are dependent.
            assert abs(pair.mean_excess) < 0.02
            assert pair.fraction_universal == 0.0


def test_rare_neurons_that_meet_by_chance_are_told_by_shuffled_tokens() -> None:
    """Independent neurons, active at 2 % of 200 tokens: some pair of them meets, no rotation does.

    What is universal is then chance, and the share that chance makes is as large.
    """
    a, b = (np.maximum(draw(seed, 200, 400) - 2, 0) for seed in (1, 2))
    b[:, :100] = a[:, :100]
    for pair in universality([sample("a", a), sample("b", b)], 0.4, seed=0).pairs:
        strangers = pair.fraction_universal - 0.25
        assert strangers > 0.3
        assert pair.fraction_by_chance * 0.75 == pytest.approx(strangers, abs=0.06)
        assert pair.fraction_by_chance == pair.blocks[0].fraction_by_chance


@pytest.mark.parametrize("tokens", [16, 17, 400])
def test_a_shuffle_moves_the_tokens_in_pairs(tokens: int) -> None:
    order = shuffling(3, tokens)
    assert torch.equal(order[order], torch.arange(tokens))
    assert int((order == torch.arange(tokens)).sum()) == tokens % 2
    assert not torch.equal(order, shuffling(4, tokens))


def test_chance_is_what_numpy_finds_at_shuffled_tokens() -> None:
    a, b = (np.maximum(draw(seed, 60, 50) - 1, 0) for seed in (1, 2))
    models = [sample("a", a), sample("b", b)]
    shuffled = correlations(a, b[shuffling(7, 60).numpy()])
    for pair, largest in zip(
        universality(models, 0.1, 7).pairs, (shuffled.max(1), shuffled.max(0)), strict=True
    ):
        excess = largest - listed(pair, "baseline")
        assert 0 < pair.fraction_by_chance < 1
        assert pair.fraction_by_chance == pytest.approx((excess > 0.1).mean())


def test_the_copy_of_a_model_is_universal() -> None:
    a = draw(1, 100, 40) * 1e-6 + 1
    found = universality([sample("a", a), sample("again", a)], 0.2, seed=0)
    for pair in found.pairs:
        assert listed(pair, "max_correlation") == pytest.approx([1.0] * 40, abs=1e-6)
        assert max(listed(pair, "max_correlation")) <= 1.0
        assert [ref.neuron for ref in listed(pair, "best_match")] == list(range(40))
        assert pair.fraction_universal == 1.0


def test_neurons_that_do_not_vary_have_no_correlation_and_are_nobodys_match() -> None:
    a, b = draw(1, 100, 4), draw(2, 100, 4)
    a[:, 1] = 0.1
    # The last digit of a float32 wavers.
    a[:, 2] = 3.0 + 2.0**-22 * (np.arange(100) % 2)
    # A candidate without variance would win against neurons whose every correlation is negative.
    b[:, 0], b[:, 1:] = 7.0, -a[:, [0, 0, 3]] + 1e-3 * b[:, 1:]
    found = universality([sample("a", a), sample("b", b)], 0.5, seed=0)
    [block] = pair_of(found, "a", "b").blocks
    for values in (block.max_correlation, block.baseline, block.best_match):
        assert [value is None for value in values] == [False, True, True, False]
    assert all(ref.neuron > 0 for ref in block.best_match if ref is not None)
    truth = correlations(a[:, [0, 3]], b[:, 1:]).max(1)
    np.testing.assert_allclose([block.max_correlation[i] for i in (0, 3)], truth, atol=CLOSE)
    [back] = pair_of(found, "b", "a").blocks
    assert back.max_correlation[0] is None
    assert {ref.neuron for ref in back.best_match if ref is not None} <= {0, 3}


def test_a_block_and_a_model_where_nothing_varies() -> None:
    quiet, a, b = np.ones((50, 3)), draw(1, 50, 5), draw(2, 50, 6)
    models = [sample("a", quiet, a), sample("b", b), sample("silent", quiet)]
    found = universality(models, 0.5, seed=0)
    first, second = pair_of(found, "a", "b").blocks
    assert first.max_correlation == first.best_match == [None] * 3
    assert (first.mean_excess, first.fraction_universal) == (0.0, 0.0)
    np.testing.assert_allclose(second.max_correlation, correlations(a, b).max(1), atol=CLOSE)
    for models in (("b", "silent"), ("silent", "b")):
        [block] = pair_of(found, *models).blocks
        for values in (block.max_correlation, block.baseline, block.best_match):
            assert values == [None] * block.num_neurons
        assert pair_of(found, *models).mean_excess == 0.0


def test_shares_count_every_neuron_and_means_those_that_vary() -> None:
    a, b = draw(1, 200, 6), draw(2, 200, 30)
    a[:, 0] = 2.0
    b[:, :2] = a[:, 1:3]
    pair = pair_of(
        universality([sample("a", a[:, :4], a[:, 4:]), sample("b", b)], 0.5, 1), "a", "b"
    )
    excess = [
        [m - r for m, r in zip(block.max_correlation, block.baseline, strict=True) if m is not None]
        for block in pair.blocks
    ]
    assert [block.fraction_universal for block in pair.blocks] == [0.5, 0.0]
    assert pair.fraction_universal == pytest.approx(2 / 6)
    for block, of_block in zip(pair.blocks, excess, strict=True):
        assert block.mean_excess == pytest.approx(np.mean(of_block))
    assert pair.mean_excess == pytest.approx(np.mean(excess[0] + excess[1]))


def test_every_ordered_pair_and_what_it_says_does_not_depend_on_the_others() -> None:
    models = [sample(name, draw(i, 64, 5 + i)) for i, name in enumerate("abc")]
    found = universality(models, 0.4, seed=5)
    assert [pair.models for pair in found.pairs] == list(itertools.permutations("abc", 2))
    assert all(pair.tokens == 64 for pair in found.pairs)
    turned_round = universality([models[2], models[0]], 0.4, seed=5)
    for pair in turned_round.pairs:
        assert pair == pair_of(found, *pair.models)


def test_the_best_matches_of_the_two_directions_agree_where_they_are_mutual() -> None:
    models = [sample("a", draw(1, 100, 30)), sample("b", draw(2, 100, 20))]
    found = universality(models, 0.5, seed=0)
    [forth], [back] = pair_of(found, "a", "b").blocks, pair_of(found, "b", "a").blocks
    mutual = 0
    for neuron, ref in enumerate(forth.best_match):
        if back.best_match[ref.neuron].neuron == neuron:
            mutual += 1
            assert forth.max_correlation[neuron] == back.max_correlation[ref.neuron]
    assert mutual


def test_the_seed_draws_the_baseline_and_nothing_else() -> None:
    models = [sample("a", draw(1, 100, 30)), sample("b", draw(2, 100, 20))]
    one, again, other = (universality(models, 0.5, seed) for seed in (1, 1, 2))
    assert one == again
    assert listed(one.pairs[0], "max_correlation") == listed(other.pairs[0], "max_correlation")
    assert listed(one.pairs[0], "baseline") != listed(other.pairs[0], "baseline")


def test_blocks_of_one_layer_are_turned_apart_and_named() -> None:
    values = draw(1, 100, 8)
    tensor = torch.tensor(values, dtype=torch.float32)
    both = ModelSample.of("b", 100, [(3, MIXER, tensor + 0), (3, MLP, tensor.flip(1))])
    mixed = [np.concatenate(list(mixing(0, "b", block))) for block in both.blocks]
    assert not np.allclose(mixed[0], mixed[1])
    pair = pair_of(universality([sample("a", values[:, ::-1] + 0.0), both], 0.5, 0), "a", "b")
    # Both blocks have every neuron; the first of equals is named.
    assert pair.blocks[0].best_match == [
        NeuronRef(layer=3, block=MIXER, neuron=7 - neuron) for neuron in range(8)
    ]


def test_activations_of_any_size_that_float32_holds() -> None:
    """Also a neuron that is alone a billion times larger than the others, as some are."""
    a, b = draw(1, 100, 12), draw(2, 100, 12)
    a[:, 0], b[:, 0] = 1e9 * a[:, 1], 1e9 * b[:, 1]
    truth = universality([sample("a", a), sample("b", b)], 0.5, seed=0)
    extreme = [sample("a", a * 1e29), sample("b", b * 1e-36)]
    found = universality(extreme, 0.5, seed=0)
    for pair, expected in zip(found.pairs, truth.pairs, strict=True):
        for field in ("max_correlation", "baseline"):
            np.testing.assert_allclose(listed(pair, field), listed(expected, field), atol=1e-5)


def test_half_precision_is_read_as_it_is() -> None:
    a, b = (torch.tensor(draw(seed, 64, 6)).to(torch.bfloat16) for seed in (1, 2))
    models = [ModelSample.of(name, 64, [(0, MLP, t)]) for name, t in (("a", a), ("b", b))]
    [block] = universality(models, 0.5, 0).pairs[0].blocks
    truth = correlations(a.double().numpy(), b.double().numpy()).max(1)
    np.testing.assert_allclose(block.max_correlation, truth, atol=CLOSE)


def test_what_cannot_be_compared_is_refused() -> None:
    few, some, more = (sample("a", draw(1, tokens, 3)) for tokens in (15, 16, 17))
    with pytest.raises(ValueError, match="one model"):
        universality([some], 0.5, 0)
    with pytest.raises(ValueError, match="share 15 tokens"):
        universality([few, few], 0.5, 0)
    with pytest.raises(ValueError, match="different numbers"):
        universality([some, more], 0.5, 0)
    with pytest.raises(ValueError, match="`none` has no neurons"):
        universality([some, ModelSample.of("none", 16, [])], 0.5, 0)
    with pytest.raises(ValueError, match="9 tokens, not 16"):
        ModelSample.of("a", 16, [(0, MIXER, torch.ones(9, 2))])
    universality([some, some], 0.5, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_activations_that_are_no_numbers_are_refused(bad: float) -> None:
    values = draw(1, 20, 3)
    values[4, 1] = bad
    with pytest.raises(ProblemError, match="Layer 0: the sample of `a`'s mixer neurons") as refused:
        sample("a", values)
    assert refused.value.kind is ProblemType.NOT_FINITE


def test_activations_are_left_as_they_are() -> None:
    tensor = torch.tensor(draw(1, 20, 3), dtype=torch.float32)
    kept = tensor.clone()
    ModelSample.of("a", 20, [(0, MIXER, tensor)])
    assert torch.equal(tensor, kept)
