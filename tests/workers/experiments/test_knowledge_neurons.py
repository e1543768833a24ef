"""Knowledge neurons against a slow float64 reference, wired neurons, and the bundled models."""

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from catalogue.locate import locate
from schemas.knowledge_neurons import FactNeurons, KnowledgeNeuronAnalysis
from schemas.names import Block, Dtype
from schemas.problem import ProblemError, ProblemType
from schemas.sections import KnowledgeNeuronSection
from schemas.settings import ModelSettings, Settings
from tests.tiny_architectures import save_mamba2, saver
from tests.tiny_models import VOCABULARY, one_thread, save_gpt2, save_mamba
from training.recall_data import recall_prompts
from workers.analyses.integrated_gradients import SURVEY, quadrature
from workers.experiments.answers import Question, log_probabilities, questions_of
from workers.experiments.knowledge_neurons import find_knowledge_neurons
from workers.experiments.paths import Paths
from workers.mixers.sites import Site, changing, sites_of
from workers.models.loading import LoadedModel, load
from workers.padding import padded

ROOM = 1 << 28
LAYERS = (0, 1, 2)
FACTS = [
    {"prompt": "w3 w1 w4 w1 w5", "answer": " w9", "paraphrases": ["w2 w6", "w5 w3 w5 w8 w9 w7 w9"]},
    {"prompt": "w2", "answer": " w7 w1 w8"},
    {"prompt": "w9 w9 w8", "answer": " w2"},
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def _loaded(root: Path, save: Callable[..., Path], **changes: Any) -> LoadedModel:
    save(root / "model")
    settings = Settings(model_dir=root, device="cpu", **changes)
    return load(locate("model", settings), settings)


SAVERS: dict[str, Callable[..., Path]] = {
    "mamba": save_mamba,
    "mamba2": save_mamba2,
    "gpt2": save_gpt2,
}


@pytest.fixture(scope="module", params=SAVERS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return _loaded(tmp_path_factory.mktemp("models"), SAVERS[request.param])


@pytest.fixture(scope="module")
def double(loaded: LoadedModel) -> LoadedModel:
    """A copy that computes in float64, by transformers' own loops."""
    model = copy.deepcopy(loaded.model).double()
    readout = type(loaded.readout).of(model)
    return LoadedModel(**{**vars(loaded), "model": model, "readout": readout})


def section(facts: Sequence[dict[str, Any]] = FACTS, **fields: Any) -> KnowledgeNeuronSection:
    return KnowledgeNeuronSection.model_validate({"facts": list(facts), **fields})


def find(
    loaded: LoadedModel,
    asked: KnowledgeNeuronSection,
    layers: Sequence[int] = LAYERS,
    **how: Any,
) -> KnowledgeNeuronAnalysis:
    tell = how.pop("tell", lambda share, what: None)
    return find_knowledge_neurons(loaded, asked, layers, how.pop("room", ROOM), tell)


def asked_of(loaded: LoadedModel) -> list[Question]:
    facts = enumerate(section().facts)
    return [each for index, fact in facts for each in questions_of(loaded.tokeniser, fact, index)]


def _probability(
    loaded: LoadedModel, question: Question, site: Site, node: float, start: int
) -> tuple[float, Tensor, Tensor]:
    """P of one prompt with the neurons from `start` on times `node`, they (l, d), and dP/d them."""
    kept: list[Tensor] = []

    def change(own: Tensor) -> Tensor:
        scaled = own.clone()
        scaled[:, start:] *= node
        kept[:] = own, scaled.requires_grad_()
        return kept[1]

    ids = torch.tensor([question.ids])
    with torch.enable_grad(), changing({site: change}, (1, len(question.ids))):
        logits = loaded.model(input_ids=ids, use_cache=False).logits[0]
        probability = logits.new_ones(())
        for step, token in enumerate(question.targets):
            probability = probability * logits[question.first + step].softmax(-1)[token]
    (gradient,) = torch.autograd.grad(probability, kept[1])
    return float(probability.detach()), kept[0][0, start:].detach(), gradient[0, start:]


def _sites(loaded: LoadedModel, double: LoadedModel) -> Iterator[tuple[Site, Site]]:
    return zip(*(sites_of(each.model, LAYERS) for each in (loaded, double)), strict=True)


@pytest.mark.parametrize("positions", ["last", "all"])
def test_attributions_are_those_of_a_slow_loop_in_float64(
    loaded: LoadedModel, double: LoadedModel, positions: Any
) -> None:
    questions = asked_of(loaded)
    nodes, weights = np.array([0.02, 0.3, 0.9]), np.array([0.5, 0.2, 0.3])
    paths = Paths(loaded, questions, positions, ROOM)
    rule = [np.tile(each, (len(questions), 1)) for each in (nodes, weights)]
    for site, slow in zip(
        *(sites_of(each.model, LAYERS) for each in (loaded, double)), strict=True
    ):
        found = paths.integrate(site, rule[0], rule[1])
        # Two prompts, one of them with an answer of several tokens.
        for prompt in (0, 3):
            question = questions[prompt]
            start = question.first if positions == "last" else 0
            wanted = torch.zeros(site.neurons, dtype=torch.float64)
            for node, weight in zip(nodes, weights, strict=True):
                _, own, gradient = _probability(double, question, slow, float(node), start)
                wanted += weight * (own * gradient).sum(0)
            # Float32 against float64, through three layers.
            np.testing.assert_allclose(
                found[prompt], wanted.numpy(), rtol=2e-3, atol=2e-4 * float(wanted.abs().max())
            )


@pytest.mark.parametrize("positions", ["last", "all"])
def test_attributions_add_up_to_what_the_block_adds_to_the_probability(
    loaded: LoadedModel, double: LoadedModel, positions: Any
) -> None:
    questions = asked_of(loaded)
    paths = Paths(loaded, questions, positions, ROOM)
    survey = np.tile(SURVEY, (len(questions), 1))
    for site, slow in zip(
        *(sites_of(each.model, LAYERS) for each in (loaded, double)), strict=True
    ):
        read = np.exp(paths.read(site, survey))
        rules = [quadrature(each, 100) for each in read]
        nodes, weights = (np.stack(each) for each in zip(*rules, strict=True))
        totals = paths.integrate(site, nodes, weights).sum(1)
        for prompt, question in enumerate(questions):
            start = question.first if positions == "last" else 0
            end, without = (_probability(double, question, slow, n, start)[0] for n in (1.0, 0.0))
            assert read[prompt, -1] == pytest.approx(end, rel=1e-4)
            assert read[prompt, 0] == pytest.approx(without, rel=1e-4)
            # What a hundred nodes leave out of the integral.
            assert totals[prompt] == pytest.approx(end - without, abs=1e-3 * max(end, without))


def test_what_is_reported_is_what_the_attributions_say(loaded: LoadedModel) -> None:
    asked = section(threshold=0.3, share=0.5)
    found = find(loaded, asked, layers=(0, 1, 2))
    assert [fact.fact for fact in found.facts] == [0, 1, 2]
    assert [len(fact.prompts) for fact in found.facts] == [3, 1, 1]
    assert found.facts[1].answer_tokens == ["w7", "w1", "w8"]
    # Smooth paths of random models: the rule loses little on them.
    assert max(each.completeness_gap for fact in found.facts for each in fact.prompts) < 0.02
    for fact in found.facts:
        values = [each.attribution for each in fact.neurons]
        assert values == sorted(values, reverse=True)
        assert all(each.prompts >= 0.5 for each in fact.neurons)
        listed = Counter(each.layer for each in fact.neurons)
        assert {layer: count for layer, count in fact.per_layer.items() if count} == listed
        assert set(fact.per_layer) == {site.layer for site in sites_of(loaded.model, LAYERS)}
    assert [each.facts for each in found.overlaps] == [(0, 1), (0, 2), (1, 2)]
    # Of one prompt, the largest is named and no other below the threshold.
    only = found.facts[1].neurons
    assert only[0].prompts == 1
    assert all(each.attribution >= 0.3 * only[0].attribution for each in only)


def test_a_prompt_has_the_same_numbers_alone_and_in_any_batch(loaded: LoadedModel) -> None:
    together = find(loaded, section())
    tight = find(loaded, section(), room=1)
    alone = [find(loaded, section([fact])).facts[0] for fact in FACTS]
    for one, other, third in zip(together.facts, tight.facts, alone, strict=True):
        for same in (other, third):
            assert _named(same) == _named(one)
            for ours, theirs in zip(one.neurons, same.neurons, strict=True):
                assert ours.attribution == pytest.approx(theirs.attribution, rel=1e-3)
            for prompt, twin in zip(one.prompts, same.prompts, strict=True):
                assert prompt.log_probability == pytest.approx(twin.log_probability, abs=1e-4)


def _named(fact: FactNeurons) -> set[tuple[int, Block, int]]:
    return {(each.layer, each.block, each.neuron) for each in fact.neurons}


def test_the_room_bounds_the_rows_of_a_batch(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []

    def counting(readout: Any, states: Tensor, asked: Sequence[Question]) -> Tensor:
        rows.append(len(asked))
        return log_probabilities(readout, states, asked)

    monkeypatch.setattr("workers.experiments.paths.log_probabilities", counting)
    find(loaded, section(), layers=[1], room=1)
    assert set(rows) == {1}
    blocks, prompts = len(sites_of(loaded.model, [1])), 5
    assert len(rows) == prompts * (1 + blocks * (12 + 20))
    rows.clear()
    find(loaded, section(), layers=[1])
    assert max(rows) > 20
    assert sum(rows) == prompts * (1 + blocks * (12 + 20))


def test_only_the_blocks_asked_for_are_looked_at(loaded: LoadedModel) -> None:
    found = find(loaded, section(blocks=["mlp"]))
    has_mlp = bool(sites_of(loaded.model, LAYERS, [Block.MLP]))
    for fact in found.facts:
        assert bool(fact.neurons) == has_mlp
        assert {each.block for each in fact.neurons} <= {Block.MLP}
    assert (found.unavailable_reason is None) == has_mlp
    if not has_mlp:
        assert found.unavailable_reason is not None
        assert "`model` that were asked for has an MLP" in found.unavailable_reason
        # Nothing to name is no error, and no answer is less probable for it.
        assert [fact.per_layer for fact in found.facts] == [{}] * 3
        assert [each.jaccard for each in found.overlaps] == [None] * 3
        assert found.facts[0].prompts[0].completeness_gap == 0


def test_of_more_neurons_than_are_listed_the_strongest_are(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = section([FACTS[0], FACTS[0]], threshold=1e-6)
    whole = find(loaded, asked)
    monkeypatch.setattr("workers.experiments.knowledge_neurons.MOST_KNOWLEDGE_NEURONS", 3)
    found = find(loaded, asked)
    for fact, twin in zip(found.facts, whole.facts, strict=True):
        assert len(twin.neurons) > 3
        assert fact.neurons == twin.neurons[:3]
        assert fact.per_layer == twin.per_layer
    # Two facts that are the same share all of their neurons, listed or not.
    [overlap] = found.overlaps
    assert (overlap.jaccard, overlap.shared) == (1, len(whole.facts[0].neurons))


def test_progress_is_told_before_every_batch_and_may_end_the_search(loaded: LoadedModel) -> None:
    told: list[tuple[float, str]] = []
    find(loaded, section(), tell=lambda share, what: told.append((share, what)), room=1)
    shares = [share for share, _ in told]
    assert shares == sorted(set(shares))
    assert shares[0] == 0
    # A row a batch: of each, the layers that it passes, those back to the block counting as two.
    count = len(loaded.description.layers)
    layers = np.diff([*shares, 1.0]) * count / shares[1]
    back = {count + 2 * (count - layer) for layer in range(count)}
    assert {round(each) for each in layers} == {count} | back
    assert layers == pytest.approx(layers.round())
    assert round(layers[-1]) == count + 2
    assert told[0][1] == "model: the facts' answers"
    assert told[-1][1].endswith(f"of layer {loaded.description.layers[-1].layer}")

    def stop(share: float, what: str) -> None:
        if share > 0.5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        find(loaded, section(), tell=stop)
    assert not any(module._forward_pre_hooks for module in loaded.model.modules())


def test_numbers_that_are_not_finite_name_the_fact(loaded: LoadedModel) -> None:
    broken = LoadedModel(**{**vars(loaded), "model": copy.deepcopy(loaded.model)})
    with torch.no_grad():
        # The token that only the last fact's prompt has.
        broken.model.get_input_embeddings().weight[20] = float("inf")
    facts = [FACTS[0], {"prompt": "w4 w19", "answer": " w2"}]
    with pytest.raises(ProblemError) as caught:
        find(broken, section(facts))
    assert caught.value.kind is ProblemType.NOT_FINITE
    [error] = caught.value.problem.errors
    assert error.pointer == "/knowledge_neurons/facts/1"
    assert "w4 w19" in error.detail


@pytest.mark.parametrize(("save", "block"), [(save_mamba, Block.MIXER), (save_gpt2, Block.MLP)])
def test_a_neuron_that_is_wired_to_write_the_answer_is_found_first(
    tmp_path: Path, save: Callable[..., Path], block: Block
) -> None:
    loaded = _loaded(tmp_path, save)
    [site] = sites_of(loaded.model, [1], [block])
    [question] = questions_of(loaded.tokeniser, section().facts[2], 2)
    answer = question.targets[0]
    projection: Any = site.projection
    # What tells the answer from the other tokens; its mean is what a norm takes away.
    table = loaded.model.get_output_embeddings().weight
    direction = table[answer] - table.mean(0)
    direction = (direction - direction.mean()) / direction.norm()
    with torch.no_grad():
        _, own, _ = _probability(loaded, question, site, 1.0, question.first)
        # One that is active, and stays so when lower blocks are scaled.
        neuron = int(own[0].abs().argmax())
        written = 40 * direction / own[0, neuron]
        # GPT-2 keeps its weights the other way round.
        column = projection.weight[neuron] if save is save_gpt2 else projection.weight[:, neuron]
        column.copy_(written)
        # Logits of a model this narrow lie too close together.
        base = loaded.model.base_model
        (base.ln_f if save is save_gpt2 else base.norm_f).weight.mul_(4)
    found = find(loaded, section([FACTS[2]]))
    first = found.facts[0].neurons[0]
    assert (first.layer, first.block, first.neuron) == (1, block, neuron)
    assert found.facts[0].prompts[0].probability > 0.9


def test_a_model_in_half_precision_finds_much_the_same(tmp_path: Path) -> None:
    half = (("model", ModelSettings(dtype=Dtype.BFLOAT16, reconstruction_tolerance=0.1)),)
    wide, narrow = _loaded(tmp_path, save_mamba), _loaded(tmp_path, save_mamba, models=half)
    asked, exact = asked_of(narrow), Paths(wide, asked_of(wide), "last", ROOM)
    [site], [other] = sites_of(wide.model, [1]), sites_of(narrow.model, [1])
    assert next(narrow.model.parameters()).dtype is torch.bfloat16
    nodes, weights = np.full((len(asked), 1), 0.5), np.ones((len(asked), 1))
    found = Paths(narrow, asked, "last", ROOM).integrate(other, nodes, weights)
    wanted = exact.integrate(site, nodes, weights)
    for one, twin in zip(found, wanted, strict=True):
        # Eight bits of a number, through three layers.
        assert np.abs(one - twin).max() < 0.15 * np.abs(twin).max()


def test_where_rotary_frequencies_depend_on_the_longest_text_each_prompt_passes_alone(
    tmp_path: Path,
) -> None:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 64}
    ends = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    rope = {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 8}
    stretched = {"max_position_embeddings": 8, "rope_parameters": {"rope_theta": 1e4, **rope}}
    loaded = _loaded(tmp_path, saver("Llama", **sizes, **heads, **ends, **stretched))
    # Both beyond the eight tokens, and near enough that others would pass them together.
    texts = [" ".join(f"w{1 + 7 * k % 30}" for k in range(length)) for length in (10, 24)]
    facts = [{"prompt": text, "answer": " w9"} for text in texts]
    together = find(loaded, section(facts, positions="all"), layers=[1])
    for fact, one in zip(facts, together.facts, strict=True):
        alone = find(loaded, section([fact], positions="all"), layers=[1]).facts[0]
        assert alone.prompts == one.prompts
        assert alone.neurons == one.neurons


def _turned(text: str) -> str:
    """The same pairs in the opposite order, and the same noun asked for."""
    *words, asked = text.split()
    pairs = [f"{noun} {digit}" for noun, digit in zip(words[::2], words[1::2], strict=True)]
    return " ".join([*pairs[::-1], asked])


@pytest.mark.parametrize("name", ["recall-mamba", "recall-mamba2", "recall-gpt2"])
def test_without_its_neurons_a_fact_is_forgotten_as_without_random_ones_it_is_not(
    name: str,
) -> None:
    settings, draw = Settings(device="cpu"), random.Random(0)
    loaded = load(locate(f"pocket/{name}", settings), settings)
    prompts = recall_prompts(seed=11, count=8, pairs=4)
    asked = section(
        [
            {"prompt": p.text, "answer": f" {p.answer}", "paraphrases": [_turned(p.text)]}
            for p in prompts
        ]
    )
    found = find(loaded, asked, layers=(0, 1))
    sites = sites_of(loaded.model, (0, 1))
    lowered, by_chance = 0.0, 0.0
    for fact in found.facts:
        questions = questions_of(loaded.tokeniser, asked.facts[fact.fact], fact.fact)
        chosen = {
            site: [n.neuron for n in fact.neurons if (n.layer, n.block) == site.place]
            for site in sites
        }
        before = _without(loaded, questions, {})
        lowered += before - _without(loaded, questions, chosen)
        for _ in range(5):
            random_ones = {
                site: draw.sample(range(site.neurons), len(each)) for site, each in chosen.items()
            }
            by_chance += (before - _without(loaded, questions, random_ones)) / 5
    assert lowered / len(found.facts) > 0.1
    assert lowered > 5 * abs(by_chance)


def _without(
    loaded: LoadedModel, questions: Sequence[Question], neurons: dict[Site, list[int]]
) -> float:
    """Mean probability of the answers with these neurons at 0, at every token."""

    def zero(chosen: list[int]) -> Callable[[Tensor], Tensor]:
        def change(own: Tensor) -> Tensor:
            changed = own.clone()
            changed[..., chosen] = 0
            return changed

        return change

    ids = padded(question.ids for question in questions)
    changes = {site: zero(chosen) for site, chosen in neurons.items() if chosen}
    with torch.no_grad(), changing(changes, (ids.shape[0], ids.shape[1])):
        states = loaded.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return float(log_probabilities(loaded.readout, states, questions).exp().mean())
