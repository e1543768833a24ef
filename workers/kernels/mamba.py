"""Each device's own convolution and scan in place of transformers' leaf functions of Mamba models.

Each architecture's code stays in charge of what feeds what; it looks both functions up in its own
module at every call, so models already loaded are affected too. CPU tensors in the dtypes of the
compiled functions go to them, those on a GPU to what `_gpu` finds there, all others to the module's
own loops. S6 models whose heads have a scan each call it once a head.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.bamba import modeling_bamba
from transformers.models.falcon_h1 import modeling_falcon_h1
from transformers.models.falcon_mamba import modeling_falcon_mamba
from transformers.models.granitemoehybrid import modeling_granitemoehybrid
from transformers.models.jamba import modeling_jamba
from transformers.models.mamba import modeling_mamba
from transformers.models.mamba2 import modeling_mamba2
from transformers.models.nemotron_h import modeling_nemotron_h
from transformers.models.zamba import modeling_zamba
from transformers.models.zamba2 import modeling_zamba2

from workers.kernels import _gpu
from workers.kernels.carried import active_carried
from workers.kernels.causal_conv import causal_conv, trains
from workers.kernels.selective_scan import handles, selective_scan
from workers.kernels.ssd_scan import ssd_scan
from workers.kernels.steps import Step, tell

# The names under which configs ask for it.
SILU = ("silu", "swish")


def implementation(device: torch.device, mixers: Iterable[nn.Module]) -> str:
    """The name of the scan that these mixers run on a device in float32 or half precision.

    `none` where no mixer is of a module whose scan is installed here.
    """
    modules = {type(mixer).__module__ for mixer in mixers}
    kernels = {leaves.kernel(device) for leaves in LEAVES if leaves.module.__name__ in modules}
    return ", ".join(sorted(kernels)) or "none"


def _has_own_ssd(device: torch.device) -> bool:
    """Whether transformers finds a package for this device that scans an SSD."""
    return device.type == "cuda" and _gpu.usable("mamba_ssm") is not None


class _Leaves:
    """The scan and the convolution of one of transformers' modules, its own and those installed."""

    scan_name: str

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self._own = self.current
        # Under wrappers that call packages for a GPU wherever the tensors are.
        self._torch_scan, self._torch_conv = map(inspect.unwrap, self._own)

    @property
    def current(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """(scan, convolution), as the module finds them now."""
        return getattr(self.module, self.scan_name), self.module.causal_conv1d_fn

    def put(self, scan: Callable[..., Any], conv: Callable[..., Any]) -> None:
        """Make the module find these."""
        setattr(self.module, self.scan_name, scan)
        self.module.causal_conv1d_fn = conv  # type: ignore[attr-defined]

    def install(self) -> None:
        """Make the module find each device's own."""
        self.put(self.scan, self.conv)

    def uninstall(self) -> None:
        """Make the module find its own."""
        self.put(*self._own)

    def kernel(self, device: torch.device) -> str:
        """The name of the scan that is run on a device."""
        raise NotImplementedError

    def scan(self, *args: Any, **kwargs: Any) -> Any:
        """The scan, with the signature of the module's own."""
        raise NotImplementedError

    def conv(
        self,
        hidden_states: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """The convolution, with the signature of the module's own."""
        packed = any(value is not None for value in kwargs.values())
        silu = activation in SILU
        if packed or not silu or not handles(hidden_states) or trains(weight, bias):
            on_gpu = hidden_states.is_cuda and _gpu.usable("causal_conv1d") is not None
            plain = self._own[1] if on_gpu else self._torch_conv
            return plain(hidden_states, weight, bias, activation=activation, **kwargs)
        carried = active_carried.get()
        initial = None if carried is None else carried.take(carried.before.rows)
        return causal_conv(hidden_states, weight, bias, initial)


class _S6(_Leaves):
    scan_name = "mamba_selective_scan"

    def kernel(self, device: torch.device) -> str:
        """As `_Leaves.kernel`."""
        return "numba" if device.type == "cpu" else _gpu.scan_on_gpu()[0]

    def scan(
        self,
        hidden_states: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The scan, with the signature of the module's own."""
        tensors = (hidden_states, dt, A, B, C)
        tell(Step(dt, kwargs.get("delta_bias"), softplus=True))
        compiled = all(handles(v) for v in tensors)
        on_gpu = hidden_states.is_cuda and all(v.dtype != torch.float64 for v in tensors)
        scan = _gpu.scan_on_gpu()[1] if on_gpu else None
        if not compiled and scan is None:
            return self._torch_scan(*tensors, *args, **kwargs)
        for choice in ("use_mambapy", "use_associative_scan"):
            kwargs.pop(choice, None)
        if scan is not None:
            return scan(*tensors, *args, **kwargs)
        carried = active_carried.get()
        if carried is not None:
            kwargs["initial_state"] = carried.take(carried.before.states)
        return selective_scan(hidden_states, dt, A, B, C, *args, **kwargs)


class _SSD(_Leaves):
    scan_name = "mamba2_chunk_scan"

    def kernel(self, device: torch.device) -> str:
        """As `_Leaves.kernel`."""
        return "mamba-ssm" if _has_own_ssd(device) else "chunks"

    def scan(
        self,
        hidden_states: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        chunk_size: int,
        D: Tensor | None = None,
        dt_bias: Tensor | None = None,
        initial_states: Tensor | None = None,
        dt_softplus: bool = False,
        dt_limit: tuple[float, float] = (0.0, float("inf")),
        return_final_states: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The scan, with the signature of the module's own; D (h,), initial_states (b, h, p, n)."""
        delta = dt if dt_bias is None else dt + dt_bias
        delta = (functional.softplus(delta) if dt_softplus else delta).clamp(*dt_limit)
        tell(Step(delta.transpose(1, 2)))
        fits = hidden_states.dtype != torch.float64 and (D is None or D.ndim == 1)
        if not fits or _has_own_ssd(hidden_states.device):
            own = self._own[0] if hidden_states.is_cuda else self._torch_scan
            return own(
                *(hidden_states, dt, A, B, C, chunk_size, D, dt_bias),
                initial_states=initial_states,
                dt_softplus=dt_softplus,
                dt_limit=dt_limit,
                return_final_states=return_final_states,
                **kwargs,
            )
        carried = active_carried.get()
        if carried is not None:
            initial_states = carried.take(carried.before.states)
        before = None if initial_states is None else initial_states.transpose(2, 3).float()
        y, last = ssd_scan(hidden_states, delta, A, B, C, before)
        if D is not None:
            y = y + D[:, None] * hidden_states
        return (y, last.transpose(2, 3)) if return_final_states else y


LEAVES: list[_Leaves] = [
    *map(_S6, (modeling_mamba, modeling_falcon_mamba, modeling_jamba, modeling_zamba)),
    *map(_SSD, (modeling_mamba2, modeling_bamba, modeling_granitemoehybrid)),
    *map(_SSD, (modeling_nemotron_h, modeling_zamba2, modeling_falcon_h1)),
]


def install() -> None:
    """Make transformers' Mamba models use each device's own functions; twice is harmless."""
    for leaves in LEAVES:
        leaves.install()


def uninstall() -> None:
    """Give transformers' Mamba models their own functions back."""
    for leaves in LEAVES:
        leaves.uninstall()


@contextmanager
def installed() -> Iterator[None]:
    """`install` for the length of a with block; what was there before comes back."""
    before = [leaves.current for leaves in LEAVES]
    install()
    try:
        yield
    finally:
        for leaves, functions in zip(LEAVES, before, strict=True):
            leaves.put(*functions)
