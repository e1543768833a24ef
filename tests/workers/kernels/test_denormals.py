"""Denormals in every thread, each case in a process of its own, for the mode stays with a thread.

The programs below have several of torch's threads and print what they find.
"""

import copy
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MambaConfig, MambaForCausalLM

from catalogue.locate import locate
from schemas.names import DEFAULT_MODEL
from schemas.settings import Settings
from tests.tiny_models import one_thread
from workers.kernels import mamba
from workers.models.loading import load

pytestmark = pytest.mark.skipif(
    not torch.backends.cpu.get_cpu_capability().startswith("AVX"), reason="no such mode here"
)

_HEAD = """
import json, threading, torch
torch.set_num_threads(3)
from workers.kernels.denormals import flush_denormals, kept_denormals
SHARE = 1 << 16
"""


def told(program: str) -> Any:
    """What a program prints as JSON on its last line."""
    run = subprocess.run(
        [sys.executable, "-c", _HEAD + program],
        env={**os.environ, "OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


def test_set_first_it_holds_in_torchs_pool_in_new_threads_and_in_autograd() -> None:
    found = told("""
assert flush_denormals()
kept = {"pool": kept_denormals()}
def thread(): kept["thread"] = kept_denormals()
started = threading.Thread(target=thread); started.start(); started.join()
leaf = torch.full((3 * SHARE,), 2.0**-100, requires_grad=True)
(grad,) = torch.autograd.grad(leaf * 2.0**-30, leaf, torch.full((3 * SHARE,), 2.0**-100))
kept["autograd"] = int(torch.count_nonzero(grad.view(torch.int32)))
print(json.dumps(kept))
""")
    assert found == {"pool": 0, "thread": 0, "autograd": 0}


def test_set_after_the_pool_it_holds_in_the_main_thread_alone_and_that_is_noticed() -> None:
    found = told("""
before = kept_denormals()
flush_denormals()
print(json.dumps([before, kept_denormals()]))
""")
    share = 1 << 16
    assert found == [3 * share, 2 * share]


def test_a_runtime_flushes_wherever_a_job_computes() -> None:
    """The very start of a runner: what it imports must not have started torch's threads."""
    found = told("""
import importlib
from schemas.settings import Settings
from workers.kernels import _parallel
entry = importlib.import_module("workers.run")
entry.open_runtime(Settings(device="cpu"), None)
pooled = _parallel._pool(2).submit(kept_denormals).result()
print(json.dumps([kept_denormals(), pooled]))
""")
    assert found == [0, 0]


def _values_and_gradients(model: MambaForCausalLM, dtype: torch.dtype) -> list[Tensor]:
    """Logits, and the gradient of the last one's sum at the embeddings, of a model in `dtype`."""
    made = copy.deepcopy(model).to(dtype).requires_grad_(False)
    ids = torch.arange(200)[None] % model.config.vocab_size
    leaf = made.get_input_embeddings()(ids).requires_grad_()
    logits = made(inputs_embeds=leaf, use_cache=False).logits
    return [logits.detach(), *torch.autograd.grad(logits[0, -1, :5].sum(), leaf)]


def _fast_decaying() -> MambaForCausalLM:
    """Every token multiplies the states by e^-0.7 to e^-6: denormal after some 15 to 130."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = MambaForCausalLM(
            MambaConfig(vocab_size=40, hidden_size=48, num_hidden_layers=2, state_size=8)
        ).eval()
        for block in model.backbone.layers:
            block.mixer.dt_proj.bias.fill_(0.0)
    return model


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "fast-decaying"])
def test_results_do_not_change_beyond_rounding(trained: bool) -> None:
    settings = Settings(device="cpu")
    model = load(locate(DEFAULT_MODEL, settings), settings).model if trained else _fast_decaying()
    exact = _values_and_gradients(model, torch.float64)
    found = {}
    with one_thread(), mamba.installed():
        for flush in (False, True):
            torch.set_flush_denormal(flush)
            try:
                found[flush] = _values_and_gradients(model, torch.float32)
            finally:
                torch.set_flush_denormal(False)
    for kept, flushed, wanted in zip(found[False], found[True], exact, strict=True):
        scale = float(wanted.abs().max())
        error = float((kept.double() - wanted).abs().max()) / scale
        # Float32 rounding through the layers; flushing adds less than a denormal's share of it.
        assert error < 2e-5
        assert float((flushed.double() - wanted).abs().max()) / scale < max(2 * error, 1e-7)
        assert float((flushed - kept).abs().max()) <= 1e-6 * scale
