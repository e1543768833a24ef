"""Neurons of whole models: planted ones are found as what they are, in a Mamba and in a GPT-2."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from catalogue.locate import locate
from schemas.names import Block, Ranking
from schemas.neurons import BlockNeurons, NeuronAnalysis
from schemas.sections import NeuronSection
from schemas.settings import Settings
from tests.tiny_architectures import ARCHITECTURES
from tests.tiny_models import save_gpt2, save_mamba
from workers.mixers.sites import Site, changing, sites_of
from workers.models.loading import LoadedModel, load
from workers.neuron_document import Texts, neuron_analysis
from workers.neuron_reading import NeuronReading, Sample
from workers.traces import TextTrace, TraceRequest
from workers.tracing import trace_each

# w7 stands in it now and then, at any position, after several words.
TEXTS = [
    "w1 w2 w7 w4 w5 w6 w8 w9 w10 w3",
    "w3 w7 w2 w1 w4 w5",
    "w5 w6 w1 w4 w2 w8 w9 w3 w7 w1 w2 w10",
    "w2 w3 w4 w5",
]
WIRED, DEAD, PLACED = 3, 5, 9
TOKEN = "w7"


def loaded_from(root: Path, name: str) -> LoadedModel:
    settings = Settings(model_dir=root, device="cpu")
    return load(locate(name, settings), settings)


def measured(
    loaded: LoadedModel, texts: list[str], section: NeuronSection | None = None
) -> NeuronAnalysis:
    """As a job measures them, in batches."""
    section = section or NeuronSection()
    ids = [loaded.tokeniser.ids(text) for text in texts]
    sites = sites_of(loaded.model, range(8))
    reading = NeuronReading(
        sites, [len(found) for found in ids], section.active_above, section.top_tokens
    )
    requests = [TraceRequest(found, text=i, reading=reading) for i, found in enumerate(ids)]
    for _, outcome in trace_each(loaded, requests, set(), set()):
        assert isinstance(outcome, TextTrace)
    seen = Texts(texts, loaded.tokeniser, section.ngram)
    layers = loaded.description.layers
    return neuron_analysis("m", reading, {}, section, seen, layers, range(len(layers)))


@pytest.fixture(scope="module")
def planted_mamba(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A layer whose first channels' input is 1 everywhere, and so is everything it selects.

    WIRED opens its gate at one token only; DEAD has no input; PLACED forgets nothing, so that what
    it has read grows with every token.
    """
    root = tmp_path_factory.mktemp("mamba")
    save_mamba(root / "m", num_hidden_layers=1)
    loaded = loaded_from(root, "m")
    model, mixer = loaded.model, loaded.model.backbone.layers[0].mixer
    d = mixer.intermediate_size
    with torch.no_grad():
        embedding = model.backbone.embeddings.weight
        embedding[:, 0] = 0.0
        embedding[loaded.tokeniser.single_token(TOKEN), 0] = 20.0
        for channel in (WIRED, DEAD, PLACED):
            mixer.in_proj.weight[channel] = 0.0
            mixer.in_proj.weight[d + channel] = 0.0
            mixer.conv1d.bias[channel] = 0.0 if channel == DEAD else 1.0
        mixer.in_proj.weight[d + WIRED, 0] = 5.0
        # A gate that is open everywhere: every token has the same last coordinate, and it is large.
        embedding[:, 1] = 5.0
        mixer.in_proj.weight[d + PLACED, 1] = 0.02
        mixer.D[:] = 1.0
        mixer.D[PLACED] = 0.0
        mixer.A_log[PLACED] = -20.0
        # B and C read channel PLACED, which is constant; so does Delta, by its bias alone.
        mixer.x_proj.weight[:] = 0.0
        mixer.x_proj.weight[mixer.time_step_rank :, PLACED] = 1.0
        mixer.dt_proj.bias[:] = 0.5
    return loaded


@pytest.fixture(scope="module")
def planted_gpt2(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """An MLP that reads the embeddings alone, for attention adds nothing to them."""
    root = tmp_path_factory.mktemp("gpt2")
    save_gpt2(root / "g")
    loaded = loaded_from(root, "g")
    model = loaded.model.transformer
    mlp = model.h[0].mlp
    with torch.no_grad():
        model.h[0].attn.c_proj.weight[:] = 0.0
        model.h[0].attn.c_proj.bias[:] = 0.0
        model.wte.weight[:, 0] = 0.0
        model.wte.weight[loaded.tokeniser.single_token(TOKEN), 0] = 5.0
        model.wte.weight[:, 1] = 0.0
        model.wpe.weight[:] = 0.0
        model.wpe.weight[:, 1] = torch.linspace(0, 2.0, len(model.wpe.weight))
        for neuron, coordinate, bias in ((WIRED, 0, -4.0), (DEAD, 0, -60.0), (PLACED, 1, 0.0)):
            mlp.c_fc.weight[:, neuron] = 0.0
            mlp.c_fc.weight[coordinate, neuron] = 4.0
            mlp.c_fc.bias[neuron] = bias
    return loaded


def test_planted_neurons_of_a_mamba(planted_mamba: LoadedModel) -> None:
    [block] = measured(planted_mamba, TEXTS).blocks
    assert (block.block, block.num_neurons) == (Block.MIXER, 96)
    assert_wired(block)
    assert block.dead == [DEAD]
    placed = {entry.neuron: entry.value for entry in block.rankings[Ranking.POSITION_CORRELATION]}
    assert max(placed, key=lambda neuron: abs(placed[neuron])) == PLACED
    assert placed[PLACED] > 0.8
    # Delta is its bias at every token, so no channel's varies.
    assert block.delta is not None
    assert block.delta.mean == pytest.approx([np.log1p(np.exp(0.5))] * 96, rel=1e-6)
    assert block.delta.variance == pytest.approx([0.0] * 96, abs=1e-12)


def test_planted_neurons_of_a_gpt2(planted_gpt2: LoadedModel) -> None:
    by_site = {(b.layer, b.block): b for b in measured(planted_gpt2, TEXTS).blocks}
    assert list(by_site) == [(0, "mixer"), (0, "mlp"), (1, "mixer"), (1, "mlp")]
    block = by_site[0, Block.MLP]
    assert_wired(block)
    assert DEAD in block.dead
    assert block.mixer is None
    assert block.delta is None
    placed = {entry.neuron: entry.value for entry in block.rankings[Ranking.POSITION_CORRELATION]}
    assert placed[PLACED] > 0.8
    assert max(placed, key=lambda neuron: abs(placed[neuron])) == PLACED


def assert_wired(block: BlockNeurons) -> None:
    """Strongest at every occurrence of its token, which is its only trigger of one token."""
    assert block.rankings[Ranking.VARIANCE][0].neuron == WIRED
    profile = next(found for found in block.profiles if found.neuron == WIRED)
    occurrences = [(0, 2), (1, 1), (2, 8)]
    strongest = profile.top_tokens[:3]
    assert sorted((top.text_index, top.position) for top in strongest) == occurrences
    assert {top.token for top in strongest} == {TOKEN}
    first = next(top for top in strongest if top.text_index == 0)
    assert (first.before, first.after) == ("w1 w2 ", " w4 w5 w6 w8 w9")
    [trigger] = [found for found in profile.triggers if found.n == 1]
    assert trigger.tokens == [TOKEN]
    assert trigger.share == 1.0
    # Three of 32 tokens.
    assert trigger.lift == pytest.approx(32 / 3, rel=1e-6)
    assert WIRED not in block.dead


def test_a_trigger_of_two_tokens_looks_backwards(planted_gpt2: LoadedModel) -> None:
    texts = ["w1 w2 w7 w4", "w5 w2 w7 w1", "w2 w5 w4 w1", "w7 w2 w1"]
    by_site = {(b.layer, b.block): b for b in measured(planted_gpt2, texts).blocks}
    profile = next(p for p in by_site[0, Block.MLP].profiles if p.neuron == WIRED)
    pairs = [found.tokens for found in profile.triggers if found.n == 2]
    assert pairs == [["w2", TOKEN]]
    # No token before the first makes a pair, and no pair reaches into the next text.
    assert profile.triggers[1].share == pytest.approx(2 / 3, rel=1e-6)


def keep(kept: dict[Site, Tensor], site: Site, x: Tensor) -> Tensor:
    kept[site] = x if x.requires_grad else x.detach().requires_grad_()
    return kept[site]


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_architecture_is_read_where_its_projections_read(name: str, tmp_path: Path) -> None:
    ARCHITECTURES[name][0](tmp_path / "m")
    loaded = loaded_from(tmp_path, "m")
    texts = ["w1 w2 w3 w4 w5", "w6 w7 w8", "w9 w1 w2 w3 w4 w5 w6 w7"]
    ids = [loaded.tokeniser.ids(text) for text in texts]
    sites = sites_of(loaded.model, range(8))
    sample = Sample(sites, [[1, 4], [], [0, 7]])
    reading = NeuronReading(sites, [len(i) for i in ids], 0.01, 3, sample=sample)
    requests = [TraceRequest(i, text=k, reading=reading) for k, i in enumerate(ids)]
    attributed = [site for site in sites if site.block is Block.MLP]
    layers = set(range(8))
    readable = {s.layer for s in sites if s.block is Block.MIXER}
    found = dict(trace_each(loaded, requests, layers, layers & readable, attributed=attributed))

    expected_sample: dict[Site, list[Tensor]] = {}
    for text, i in enumerate(ids):
        kept: dict[Site, Tensor] = {}
        hooks = {site: partial(keep, kept, site) for site in sites}
        with changing(hooks, (1, len(i))), torch.enable_grad():
            logits = loaded.model(input_ids=torch.tensor([i])).logits[0, -1]
            gradients = torch.autograd.grad(logits.max(), [kept[site] for site in sites])
        for site, gradient in zip(sites, gradients, strict=True):
            expected = (gradient * kept[site])[0].sum(0).detach()
            trace = found[text]
            assert isinstance(trace, TextTrace)
            if site.block is Block.MIXER:
                actual = trace.mixers[site.layer].summary((), attributed=True).attributed
            else:
                actual = trace.attributed[site]
            scale = float(expected.abs().max())
            torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5 * scale + 1e-9)
            chosen = kept[site][0, sample.places[text]].detach()
            expected_sample.setdefault(site, []).append(chosen)
    taken = {(layer, block): values for layer, block, values in sample.hand_over()}
    for site in sites:
        expected = torch.cat(expected_sample[site])
        torch.testing.assert_close(taken[site.layer, site.block], expected, rtol=1e-4, atol=1e-6)
        assert reading.moments[site].tokens == 16
        assert reading.moments[site].texts == 3
    stepped = {site.layer for site in reading.steps}
    families = loaded.description.layers
    assert stepped == {k for k in readable if families[k].mixer in ("s6", "ssd")}
    for site, steps in reading.steps.items():
        described = families[site.layer]
        wide = described.channels if described.mixer == "s6" else described.heads
        assert len(steps.mean) == wide
        assert (steps.mean > 0).all()
        assert (steps.variance > 0).all()


def test_a_text_in_pieces_is_the_text_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_mamba(tmp_path / "m")
    loaded = loaded_from(tmp_path, "m")
    texts = [" ".join(f"w{(7 * i + k) % 36}" for i in range(150 - 40 * k)) for k in range(2)]
    whole = measured(loaded, texts)
    monkeypatch.setattr("workers.passes.pass_tokens", lambda *_: 64)
    pieces = measured(loaded, texts)
    for one, other in zip(whole.blocks, pieces.blocks, strict=True):
        for name, values in one.statistics.model_dump().items():
            again = getattr(other.statistics, name)
            np.testing.assert_allclose(again, values, rtol=1e-3, atol=1e-5, err_msg=name)
        assert one.delta is not None
        assert other.delta is not None
        np.testing.assert_allclose(other.delta.variance, one.delta.variance, rtol=1e-3, atol=1e-9)
