"""Which kernels run on a GPU, and that they compile for one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MambaConfig, MambaForCausalLM

from workers.kernels import _gpu, mamba
from workers.mixers import mixers_of
from workers.models import loading

ROOT = Path(__file__).parents[3]
CUDA = torch.device("cuda")
DEVICE = "cuda" if os.environ["TRITON_INTERPRET"] == "0" else "cpu"

pytestmark = pytest.mark.usefixtures("fresh_choice")


@pytest.fixture
def model() -> MambaForCausalLM:
    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=11, hidden_size=4, state_size=3, num_hidden_layers=2, time_step_rank=2
    )
    return MambaForCausalLM(config).eval().to(DEVICE)


@pytest.fixture
def mamba_ssm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package mamba_ssm whose scan counts its calls and computes with torch."""
    names = ["mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    found: Any = sys.modules[names[-1]]
    found.calls = 0

    # The arguments of the package's own function; it takes no others.
    def selective_scan_fn(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None = None,
        z: Tensor | None = None,
        delta_bias: Tensor | None = None,
        delta_softplus: bool = False,
        return_last_state: bool = False,
    ) -> Any:
        found.calls += 1
        rest = (D, z, delta_bias, delta_softplus, return_last_state)
        return leaves()._torch_scan(u, delta, A, B, C, *rest)

    found.selective_scan_fn = selective_scan_fn
    return found


def leaves() -> Any:
    """The leaf functions of the module that the tests' model is from."""
    return mamba.LEAVES[0]


def logits_and_gradient(model: MambaForCausalLM) -> list[Tensor]:
    ids = torch.arange(5, device=DEVICE)[None]
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings).logits
    logits[0, -1, 3].backward()
    assert embeddings.grad is not None
    return [logits.detach(), embeddings.grad]


@pytest.mark.usefixtures("on_a_gpu")
def test_mamba_ssm_scans_when_it_can_be_imported(model: MambaForCausalLM, mamba_ssm: Any) -> None:
    mixers = list(mixers_of(model).values())
    prepared = loading._prepare_mixers(mixers, CUDA)
    assert mamba.implementation(CUDA, mixers) == prepared == "mamba-ssm"
    with mamba.installed():
        logits_and_gradient(model)
    assert mamba_ssm.calls == 2
    assert mamba.implementation(torch.device("cpu"), mixers) == "numba"


@pytest.mark.usefixtures("on_a_gpu")
def test_a_broken_mamba_ssm_leaves_a_line_and_triton_scans(
    model: MambaForCausalLM,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = logits_and_gradient(model)
    (tmp_path / "mamba_ssm").mkdir()
    (tmp_path / "mamba_ssm" / "__init__.py").write_text("raise ImportError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    with caplog.at_level(logging.WARNING), mamba.installed():
        monkeypatch.setattr(leaves(), "_torch_scan", None)
        found = logits_and_gradient(model)
    assert "undefined symbol" in caplog.text
    assert mamba.implementation(CUDA, mixers_of(model).values()) == "triton"
    for ours, theirs in zip(found, expected, strict=True):
        # Two layers of float32 rounding, in another order of sums.
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.usefixtures("on_a_gpu")
def test_without_any_package_transformers_scans(
    model: MambaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "workers.kernels._scan_triton", None)
    assert mamba.implementation(CUDA, mixers_of(model).values()) == "transformers"
    calls = []
    original = leaves()._torch_scan

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(leaves(), "_torch_scan", counted)
    with mamba.installed():
        logits_and_gradient(model)
    assert len(calls) == 2


def test_what_is_not_installed_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert _gpu.usable("no_such_package.of_this_name") is None
    assert not caplog.text


ONLY_ON_A_GPU = """
def refuse(*args, **kwargs):
    raise RuntimeError("only on a GPU")
causal_conv1d_fn = causal_conv1d_update = selective_scan_fn = mamba_inner_fn = refuse
"""
ON_THE_CPU = """
from catalogue.locate import locate
from schemas.settings import Settings
from workers.models.loading import load
from transformers.models.mamba import modeling_mamba

settings = Settings(device="cpu")
print(load(locate("pocket/recall-mamba", settings), settings).provenance.kernel)
from workers.kernels import mamba as fast
for leaves in fast.LEAVES:
    assert leaves._own[1] is not leaves._torch_conv
"""


def test_packages_for_a_gpu_do_not_run_on_the_cpu(tmp_path: Path) -> None:
    for name in ("causal_conv1d", "mamba_ssm/ops"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "causal_conv1d" / "__init__.py").write_text(ONLY_ON_A_GPU)
    (tmp_path / "mamba_ssm" / "__init__.py").touch()
    (tmp_path / "mamba_ssm" / "ops" / "__init__.py").touch()
    (tmp_path / "mamba_ssm" / "ops" / "selective_scan_interface.py").write_text(ONLY_ON_A_GPU)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_CPU],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["numba"]


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from workers.kernels import _reads_triton as reads
from workers.kernels import _scan_triton as scan

wide = ("gap", "parts", "products", "state", "totals")
sizes = {"channels", "chunk", "length", "rows", "states", "p_stride", "q_stride", "r_stride"}
target = GPUTarget("cuda", 80, 32)
for kernel, constants in (
    (reads.row_kernel, {"D": 8, "N": 16}),
    (reads.weighted_kernel, {"D": 8, "N": 16, "K": 2}),
    (reads.moments_kernel, {"D": 4, "N": 16}),
    (reads.apply_kernel, {"D": 8, "N": 16, "BLOCK": 8}),
    (scan.forward_kernel, {"D": 8, "N": 16}),
    (scan.backward_kernel, {"D": 8, "N": 16}),
):
    types = dict.fromkeys(constants, "constexpr") | dict.fromkeys(sizes, "i32")
    types |= dict.fromkeys(wide, "*fp64")
    signature = {name: types.get(name, "*fp32") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=constants)
    assert triton.compile(source, target=target).asm["cubin"]
"""


def test_the_kernels_compile_for_a_gpu(tmp_path: Any) -> None:
    """The interpreter accepts what the compiler may refuse; no GPU is needed to compile."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
