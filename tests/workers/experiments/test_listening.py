"""Many conditions in one pass against one text under one change at a time, in float64."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from schemas import pieces
from schemas.names import Intervening
from schemas.problem import ProblemError, ProblemType
from schemas.sections import Intervention
from tests.reference import perturbation as reference
from tests.tiny_architectures import save_mamba2, saver
from tests.tiny_models import VOCABULARY, one_thread, save_gpt2, save_mamba
from tests.workers.experiments.models import MIXER, MLP, loaded_from, pool_of, projection
from workers.analyses.perturbation import Said
from workers.experiments.changes import Condition, Moments
from workers.experiments.listening import Listener, Texts
from workers.mixers.sites import Place
from workers.models import rotary
from workers.models.loading import LoadedModel
from workers.traces import TraceRequest

SAVERS = {"mamba": save_mamba, "mamba2": save_mamba2, "gpt2": save_gpt2}
# Float32 rounding through a few layers, of logits up to about ten.
ABSOLUTE = 5e-5
REQUESTS = [
    TraceRequest((3, 1, 4, 1, 5, 9, 2, 6)),
    TraceRequest((7,), text=1),
    TraceRequest((8, 2, 8), position=1, token=4, text=2),
    TraceRequest(tuple(range(1, 31)), position=-4, token=11, contrast=2, text=3),
]
SETS: list[dict[Place, list[int]]] = [
    {(0, MIXER): [3], (1, MIXER): [0, 5, 7]},
    {(1, MIXER): [5]},
    {(1, MIXER): [2, 6]},
    {(0, MIXER): [1, 2, 3, 4]},
]
OF_MLPS: list[dict[Place, list[int]]] = [{(0, MLP): [1, 9]}, {(0, MIXER): [2], (1, MLP): [60]}]
INTERVENTIONS = [
    Intervention(kind=Intervening.ZERO),
    Intervention(kind=Intervening.MEAN),
    Intervention(kind=Intervening.SCALE, factor=-1.7),
]
NOISE = Intervention(kind=Intervening.NOISE, std=3.0)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module", params=SAVERS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded_from(tmp_path_factory.mktemp("models"), SAVERS[request.param])


def sets_of(loaded: LoadedModel) -> list[dict[Place, list[int]]]:
    return SETS + OF_MLPS if loaded.description.architecture == "gpt2" else SETS


def conditions(sets: Sequence[Mapping[Place, Sequence[int]]]) -> list[Condition]:
    return [
        Condition({place: np.array(of) for place, of in each.items()}, (0, index), f"set {index}")
        for index, each in enumerate(sets)
    ]


def moments_of(loaded: LoadedModel) -> dict[Place, Moments]:
    """Made up: what is written in the place of a neuron need not be its mean."""
    draw = torch.Generator().manual_seed(0)
    return {
        site.place: Moments(
            torch.randn(site.neurons, generator=draw), torch.rand(site.neurons, generator=draw)
        )
        for site in pool_of(loaded)
    }


def listener(loaded: LoadedModel, room: int = 1 << 30) -> Listener:
    sites = {site.place: site for site in pool_of(loaded)}
    return Listener(loaded, sites, moments_of(loaded), room, lambda tokens: None)


def change_of(
    intervention: Intervention, neurons: Sequence[int], moments: Moments, x: Tensor
) -> Tensor:
    changed = x.clone()
    for neuron in neurons:
        if intervention.kind is Intervening.ZERO:
            changed[..., neuron] = 0
        elif intervention.kind is Intervening.MEAN:
            changed[..., neuron] = moments.mean[neuron].double()
        else:
            changed[..., neuron] *= intervention.factor
    return changed


def assert_said(found: Said, condition: int, text: int, expected: Mapping[str, float]) -> None:
    for name, value in expected.items():
        ours = float(getattr(found, name)[condition, text])
        assert ours == pytest.approx(value, abs=ABSOLUTE, nan_ok=True), name


def test_many_conditions_say_what_each_says_alone(loaded: LoadedModel) -> None:
    sets, moments, wide = sets_of(loaded), moments_of(loaded), reference.widened(loaded.model)
    texts = Texts(REQUESTS)
    before, after = listener(loaded).listen(texts, INTERVENTIONS, conditions(sets))
    moved = []
    for text, request in enumerate(REQUESTS):
        asked = (request.ids, request.position, request.token, request.contrast)
        unchanged = reference.said(wide, {}, *asked)
        assert_said(before, 0, text, unchanged)
        for index, intervention in enumerate(INTERVENTIONS):
            for at, chosen in enumerate(sets):
                changes = {
                    projection(loaded, *place): partial(
                        change_of, intervention, neurons, moments[place]
                    )
                    for place, neurons in chosen.items()
                }
                expected = reference.said(wide, changes, *asked)
                assert_said(after[index], at, text, expected)
                moved.append(abs(expected["logit"] - unchanged["logit"]))
    # What changes nothing would be found even where nothing is changed.
    assert np.median(moved) > 100 * ABSOLUTE


def everything(said: tuple[Said, list[Said]]) -> np.ndarray[Any, Any]:
    return np.concatenate(
        [
            np.concatenate([each.logit, each.probability, each.divergence, each.loss])
            for each in (said[0], *said[1])
        ]
    )


def test_nothing_depends_on_what_passes_together(loaded: LoadedModel) -> None:
    each, asked = conditions(sets_of(loaded)), [*INTERVENTIONS, NOISE]
    together = everything(listener(loaded).listen(Texts(REQUESTS), asked, each))
    apart = everything(listener(loaded, room=1).listen(Texts(REQUESTS), asked, each))
    np.testing.assert_allclose(apart, together, rtol=0, atol=ABSOLUTE)
    alone = [listener(loaded).listen(Texts(REQUESTS), asked, [one])[1] for one in each]
    for index in range(len(asked)):
        rows = np.concatenate([found[index].logit for found in alone])
        whole = listener(loaded).listen(Texts(REQUESTS), asked, each)[1][index].logit
        np.testing.assert_allclose(rows, whole, rtol=0, atol=ABSOLUTE)


# Of a vocabulary of 40, a token at a time; and five, of rows of three texts.
@pytest.mark.parametrize(("logits", "tokens"), [(1, 32), (200, 1024)])
def test_nothing_depends_on_how_texts_and_logits_are_cut(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, logits: int, tokens: int
) -> None:
    each, asked = conditions(sets_of(loaded)), [*INTERVENTIONS, NOISE]
    whole = everything(listener(loaded).listen(Texts(REQUESTS), asked, each))
    monkeypatch.setattr(pieces, "LOGITS", logits)
    monkeypatch.setattr(pieces, "PASS", tokens)
    monkeypatch.setattr(pieces, "SHORTEST", 7)
    cut = everything(listener(loaded).listen(Texts(REQUESTS), asked, each))
    np.testing.assert_allclose(cut, whole, rtol=0, atol=ABSOLUTE)


def test_rows_pass_together_as_far_as_there_is_room(loaded: LoadedModel) -> None:
    each = conditions([{(0, MIXER): [index]} for index in range(12)])
    passes: dict[int, list[int]] = {}
    for room in (1, 1 << 30):
        passes[room] = []
        heard = Listener(
            loaded,
            {site.place: site for site in pool_of(loaded)},
            {},
            room,
            passes[room].append,
        )
        heard.listen(Texts(REQUESTS[:1]), INTERVENTIONS[:1], each)
    assert passes[1] == [8] * 13
    assert passes[1 << 30] == [8, 8 * 12]


def test_without_neurons_of_a_block_its_projection_reads_zeros(loaded: LoadedModel) -> None:
    site = pool_of(loaded)[-1]
    ids = torch.tensor([REQUESTS[0].ids])
    target = int(loaded.model(input_ids=ids).logits[0, -1].argmax())
    wide = reference.widened(loaded.model)
    parameters: Any = dict(wide.named_modules())[projection(loaded, site.layer, site.block)]
    with torch.no_grad():
        parameters.weight.zero_()
        expected = wide(input_ids=ids).logits[0, -1]
    every = conditions([{site.place: list(range(site.neurons))}])
    [found] = listener(loaded).listen(Texts(REQUESTS[:1]), INTERVENTIONS[:1], every)[1]
    assert found.logit[0, 0] == pytest.approx(float(expected[target]), abs=ABSOLUTE)


DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 16}


def test_a_text_of_a_model_that_stretches_its_positions_is_read_as_alone(tmp_path: Path) -> None:
    save = saver(
        "Llama",
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        rope_parameters={"rope_theta": 10000.0, **DYNAMIC},
    )
    loaded = loaded_from(tmp_path, save)
    assert rotary.stretching(loaded.model)
    requests = [TraceRequest(tuple(range(1, 11))), TraceRequest(tuple(range(1, 15)))]
    requests.append(TraceRequest(tuple(1 + index * 7 % 39 for index in range(25))))
    each = conditions(SETS)
    _, [together] = listener(loaded).listen(Texts(requests), INTERVENTIONS[:1], each)
    for index, request in enumerate(requests):
        _, [alone] = listener(loaded).listen(Texts([request]), INTERVENTIONS[:1], each)
        np.testing.assert_allclose(together.logit[:, [index]], alone.logit, rtol=0, atol=ABSOLUTE)


@pytest.mark.parametrize("factor", [1e38, -1e308])
def test_what_holds_no_numbers_is_named(factor: float, tmp_path: Path) -> None:
    loaded = loaded_from(tmp_path, save_gpt2)
    far = [*INTERVENTIONS[:1], Intervention(kind=Intervening.SCALE, factor=factor)]
    each = conditions([{(0, MIXER): [1]}, {(1, MLP): [2]}])
    with pytest.raises(ProblemError) as raised:
        listener(loaded).listen(Texts(REQUESTS[2:]), far, each)
    assert raised.value.kind is ProblemType.NOT_FINITE
    [error] = raised.value.problem.errors
    assert error.pointer == "/perturbation/interventions/1"
    assert "for text 2 once `scale` changes set" in error.detail
    loaded.model.transformer.h[1].mlp.c_proj.bias[3] = torch.nan
    with pytest.raises(ProblemError, match="text 2, before any neuron is changed"):
        listener(loaded).listen(Texts(REQUESTS[2:]), far, each)
