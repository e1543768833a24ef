"""Pieces of a text against the whole of it, and what a pass keeps."""

import gc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

from schemas import pieces
from tests.tiny_models import one_thread
from workers import passes
from workers.kernels import mamba
from workers.kernels.carried import Border, Carried
from workers.mixers import adapter_for, mixers_of
from workers.passes.batch import Batch, Pass
from workers.passes.piecewise import PiecewisePass
from workers.passes.whole import WholePass

# Float32 rounding through a few layers; sums over the tokens of a piece come in another order.
RELATIVE = 2e-5


@pytest.fixture(autouse=True, scope="module")
def _compiled() -> Iterator[None]:
    with one_thread(), mamba.installed():
        yield


def model(taps: int = 4, layers: int = 3, seed: int = 0) -> Any:
    config = MambaConfig(
        vocab_size=40,
        hidden_size=24,
        state_size=5,
        conv_kernel=taps,
        time_step_rank=3,
        num_hidden_layers=layers,
    )
    return _noised(MambaForCausalLM, config, seed)


def model2(taps: int = 4, layers: int = 3, seed: int = 0) -> Any:
    """A Mamba-2 of the same hidden size."""
    config = Mamba2Config(
        vocab_size=40,
        hidden_size=24,
        state_size=5,
        conv_kernel=taps,
        num_heads=4,
        head_dim=12,
        n_groups=2,
        num_hidden_layers=layers,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _noised(Mamba2ForCausalLM, config, seed)


def _noised(architecture: Any, config: Any, seed: int) -> Any:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        made = architecture(config).eval().requires_grad_(False)
        # Fresh models have zero biases and D = 1: noise makes every term count.
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return made


MODELS = {"mamba": model, "mamba2": model2}


def batch(model: Any, lengths: list[int], gradient_layers: set[int], seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    modules = mixers_of(model)
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, 40, (length,), generator=draw)
    positions = [int(torch.randint(0, length, (1,), generator=draw)) for length in lengths]
    hidden = {}
    for layer, module in modules.items():
        adapter = adapter_for(module)
        assert adapter is not None
        hidden[layer] = adapter.hidden
    return Batch(model, modules, hidden, sorted(gradient_layers), ids, positions)


def everything(run: Pass, outer: Tensor | None) -> dict[str, Tensor]:
    found = {"read": run.read()}
    for layer, value in run.captured.hidden.items():
        found[f"hidden {layer}"] = value
    for layer, value in run.captured.output.items():
        found[f"output {layer}"] = value.detach()
    if outer is not None:
        for layer, value in run.gradients(outer).items():
            found[f"gradient {layer}"] = value
    return found


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        error, scale = float((found[name] - value).abs().max()), float(value.abs().max())
        assert error <= RELATIVE * scale, f"{name}: error {error:.3g} of {scale:.3g}"


@settings(max_examples=40, deadline=None)
@given(
    made=st.sampled_from(sorted(MODELS)),
    taps=st.integers(1, 5),
    piece=st.integers(1, 40),
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    gradient_layers=st.sets(st.integers(0, 2)),
    seed=st.integers(0, 1000),
)
def test_pieces_equal_the_whole(
    made: str, taps: int, piece: int, lengths: list[int], gradient_layers: set[int], seed: int
) -> None:
    work = batch(MODELS[made](taps, seed=seed), lengths, gradient_layers, seed)
    outer = torch.randn(len(lengths), 24, generator=torch.Generator().manual_seed(seed))
    wanted = outer if gradient_layers else None
    expected = everything(WholePass(work), wanted)
    assert_same(everything(PiecewisePass(work, piece), wanted), expected)


@pytest.mark.parametrize("made", MODELS)
def test_nothing_after_the_positions_has_a_gradient(made: str) -> None:
    work = batch(MODELS[made](), [50, 20], {0, 2})
    run = PiecewisePass(work, 7)
    run.read()
    for gradient in run.gradients(torch.ones(2, 24)).values():
        for row, at in enumerate(work.positions):
            assert gradient[row, at].any()
            assert not gradient[row, at + 1 :].any()


@pytest.mark.parametrize("name", MODELS)
def test_texts_go_in_pieces_only_where_they_can_and_are_long(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PASS", 64)
    made = MODELS[name]()
    assert isinstance(passes.pass_over(batch(made, [64], set())), WholePass)
    assert isinstance(passes.pass_over(batch(made, [65], set())), PiecewisePass)
    assert isinstance(passes.pass_over(batch(made, [65], {1})), WholePass)
    monkeypatch.setattr(pieces, "GRAPH_BYTES", 1)
    assert isinstance(passes.pass_over(batch(made, [65], {1})), PiecewisePass)
    assert isinstance(passes.pass_over(batch(made.double(), [65], set())), WholePass)


def _live_floats(smallest: int) -> int:
    """Floats in distinct tensors of at least this size that Python can reach."""
    storages = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() // 4
        for value in gc.get_objects()
        if type(value) is Tensor and value.numel() >= smallest
    }
    return sum(storages.values())


@pytest.mark.parametrize("name", MODELS)
def test_pieces_keep_captures_and_borders_only(name: str) -> None:
    """After the pass of a long text nothing of the size of a layer's channels remains."""
    made = MODELS[name]()
    work = batch(made, [4096], set())
    work = Batch(made, {2: work.modules[2]}, work.hidden, [], work.ids, work.positions)
    gc.collect()
    before = _live_floats(2 * 4096)
    run = PiecewisePass(work, 64)
    run.read()
    gc.collect()
    # Input and output of one mixer, each (l, m).
    assert _live_floats(2 * 4096) - before == 2 * 4096 * 24


def test_the_widest_tensor_of_a_pass_is_one_piece() -> None:
    made = model()
    work = batch(made, [1000], {1})
    seen: list[int] = []
    for module in work.modules.values():
        module.in_proj.register_forward_hook(lambda m, a, out: seen.append(out.shape[1]))
    run = PiecewisePass(work, 100)
    run.read()
    run.gradients(torch.ones(1, 24))
    assert set(seen) == {100}


def test_a_whole_pass_keeps_no_graph_below_the_lowest_gradient_layer() -> None:
    """The graph's nodes grow with the layers above it, by the same number for each."""
    made = model(layers=4)

    def nodes(lowest: int) -> int:
        run = WholePass(batch(made, [9], {lowest}))
        run.read()
        seen, rest = set(), [run._read.grad_fn]
        while rest:
            node = rest.pop()
            if node is not None and node not in seen:
                seen.add(node)
                rest.extend(parent for parent, _ in node.next_functions)
        return len(seen)

    counts = [nodes(lowest) for lowest in (3, 2, 1, 0)]
    steps = {after - before for before, after in pairwise(counts)}
    assert len(steps) == 1
    # The final norm and the read-out alone, less than one layer.
    assert counts[0] < steps.pop()


@pytest.mark.parametrize("name", MODELS)
def test_a_scan_that_takes_no_state_is_noticed(name: str) -> None:
    made = MODELS[name]()
    mamba.uninstall()
    try:
        with pytest.raises(RuntimeError, match="layer 0 ran without what it should carry"):
            made.backbone(
                input_ids=torch.ones(1, 3, dtype=torch.long), cache_params=Carried(Border())
            )
    finally:
        mamba.install()
