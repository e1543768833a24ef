"""Whatever we are compared with computes what we compute."""

import matplotlib as mpl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import default_job, perturbation
from benchmarks.agreement import require_close
from benchmarks.jobs_here import opened
from benchmarks.model_pass import gradient_of
from benchmarks.peers import attention, job, passes
from benchmarks.peers import ssd as ssd_peer
from benchmarks.peers.perturbation import said_apart
from benchmarks.systems import System, initialised, of_heads, unforgetting, wide
from catalogue.locate import locate
from schemas.names import DEFAULT_MODEL
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.reference import hidden_attention as reference
from tests.reference import ssd as ssd_reference
from workers.kernels.ssd import System as SSDSystem
from workers.mixers.sites import sites_of
from workers.models.loading import load
from workers.traces import TraceRequest
from workers.tracing import trace

KINDS = {"initialised": initialised, "wide": wide, "unforgetting": unforgetting}


@given(
    kind=st.sampled_from(list(KINDS)),
    length=st.integers(1, 40),
    channels=st.integers(1, 7),
    columns=st.sampled_from([16, 48, 4096]),
)
def test_ways_to_the_matrix_agree_with_the_definition(
    kind: str, length: int, channels: int, columns: int
) -> None:
    system = KINDS[kind](length, channels)
    wanted = _mean(system)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_COLUMNS", columns)
        ways = (
            attention.per_channel(system, channels),
            attention.rows_carried_forward(system, channels),
            attention.triple_loop(system, channels, list(range(length))),
        )
    # float32 against float64; differences of summed deltas lose a few bits of a decay.
    scale = float(wanted.abs().max())
    for found in ways:
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * scale)


def test_a_share_of_the_channels_is_that_share_of_the_sum() -> None:
    system = initialised(20, 4)
    delta, A, B, C = system
    first = (delta[:, :2], A[:2], B, C)
    for way in (attention.per_channel, attention.rows_carried_forward):
        torch.testing.assert_close(way(system, 2), way(first, 2) / 2)


@pytest.mark.parametrize("groups", [1, 2])
def test_alpha_of_all_heads_is_that_of_the_definition(groups: int) -> None:
    one = of_heads(20, heads=4, states=3 * groups)
    B, C = (v.view(20, groups, 3) for v in (one.B, one.C))
    system = SSDSystem(one.delta, one.A, B, C)
    alpha = ssd_reference.alpha(*(v.double().numpy() for v in (one.delta, one.A, B, C)))
    p, q = torch.randn(2, 20, 12, generator=torch.Generator().manual_seed(0))
    wanted = ssd_reference.matrix(alpha, p.double().numpy(), q.double().numpy())
    for found, twin in (
        (ssd_peer.mean(system), alpha.mean(0)),
        (ssd_peer.guided(system, p, q), wanted),
    ):
        # float32 against float64; differences of summed deltas lose a few bits of a decay.
        scale = float(abs(twin).max())
        torch.testing.assert_close(
            found, torch.from_numpy(twin).float(), rtol=1e-4, atol=1e-5 * scale
        )


def _mean(system: System) -> torch.Tensor:
    wanted = reference.attention_matrix(*(values.double().numpy() for values in system))
    return torch.from_numpy(wanted).float()


@pytest.mark.parametrize("use_mambapy", [False, True])
def test_transformers_own_scans_find_our_logits_and_gradients(use_mambapy: bool) -> None:
    if use_mambapy:
        pytest.importorskip("mambapy")
    place = locate(DEFAULT_MODEL, Settings())
    assert place.path is not None
    ours, peer = load(place, Settings(device="cpu")), passes.load(place.path)
    ids, layers = [3, 9, 4, 11, 5, 2, 3], [0, 1]
    [traced] = trace(ours, [TraceRequest(ids)], set(layers), set(layers))
    with passes.own_scan(peer, use_mambapy):
        logits = passes.next_logits(peer, ids)
        gradients = passes.target_gradients(peer, [ids], layers)
    # Two float32 passes that sum in different orders.
    torch.testing.assert_close(logits, traced.logits, rtol=1e-3, atol=1e-3)
    for layer in layers:
        wanted = gradient_of(traced, layer)
        scale = float(wanted.abs().max())
        torch.testing.assert_close(gradients[layer][0], wanted, rtol=1e-3, atol=1e-4 * scale)


def test_own_scan_takes_the_compiled_scan_out_and_puts_it_back() -> None:
    from transformers.models.mamba import modeling_mamba

    place = locate(DEFAULT_MODEL, Settings())
    assert place.path is not None
    peer = passes.load(place.path)
    load(place, Settings(device="cpu"))
    installed = modeling_mamba.mamba_selective_scan
    with passes.own_scan(peer, use_mambapy=True):
        assert modeling_mamba.mamba_selective_scan != installed
        assert all(layer.mixer.use_mambapy for layer in peer.backbone.layers)
    assert modeling_mamba.mamba_selective_scan == installed
    assert not any(layer.mixer.use_mambapy for layer in peer.backbone.layers)


def test_the_script_of_public_parts_gives_the_numbers_of_the_job() -> None:
    with opened(Settings(device="cpu")) as here:
        default_job.require_same_numbers(here)


def test_the_comparison_of_script_and_job_notices_a_difference() -> None:
    with pytest.raises(AssertionError, match="differ by"):
        require_close("a number", [1.0, 2.0], [1.0, 2.01])
    with pytest.raises(AssertionError):
        require_close("a number", [1.0, float("nan")], [1.0, 2.0])


def test_the_script_draws_as_many_figures_of_the_attention_as_the_job(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    mpl.use("agg")
    folder = tmp_path_factory.mktemp("figures")
    with opened(Settings(device="cpu")) as here:
        ran = here.run(JobRequest(texts=["apple 3 river 7 apple"], neurons=None))
        result = ran.document.results[0]
        place = locate(DEFAULT_MODEL, here.runtime.settings)
    assert place.path is not None
    model, asked = passes.load(place.path), default_job.job_of(result)
    clock = job.Clock()
    with passes.own_scan(model):
        found = job.analyse(model, asked, clock)
    job.draw(asked, found, folder, clock)
    assert len(list(folder.glob("*.png"))) == ran.artifacts - 1
    assert set(clock.seconds) == {"pass", "attention", "rollout", "sheets", "strips", "overviews"}


@pytest.mark.parametrize("name", perturbation.POCKET)
def test_sets_one_after_another_say_what_they_say_together(name: str) -> None:
    settings = Settings(device="cpu")
    loaded = load(locate(name, settings), settings)
    ids = loaded.tokeniser.ids(perturbation.QUESTION)
    site = sites_of(loaded.model, [1])[0]
    sets = perturbation.random_sets(site)
    apart = said_apart(loaded.model, ids, site.projection, sets)
    together = perturbation.said_together(loaded, ids, site, sets)
    require_close("what is said", together, apart)
