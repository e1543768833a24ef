"""Each device's own convolution and scan in place of transformers' leaf functions of S6 models.

Each architecture's code stays in charge of what feeds what; it looks both functions up in its own
module at every call, so models already loaded are affected too. Where heads have a scan each, it
calls once a head. CPU tensors in the dtypes of the compiled functions go to
them, those on a GPU to what `_gpu` finds there, all others to transformers' own loops.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from transformers.models.falcon_mamba import modeling_falcon_mamba
from transformers.models.jamba import modeling_jamba
from transformers.models.mamba import modeling_mamba
from transformers.models.zamba import modeling_zamba

from workers.kernels import _gpu
from workers.kernels.causal_conv import causal_conv, trains
from workers.kernels.selective_scan import handles, selective_scan

# The names under which configs ask for it.
SILU = ("silu", "swish")


@dataclass(frozen=True)
class Border:
    """What a Mamba's mixers know of the tokens before a piece, by layer; nothing before the first.

    rows (b, d, j-1): the convolution's last inputs; states (b, d, n): the scan's state.
    """

    rows: dict[int, Tensor] = field(default_factory=dict)
    states: dict[int, Tensor] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """All of them, in a fixed order."""
        return [kind[layer] for kind in (self.rows, self.states) for layer in sorted(kind)]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Border":
        """The border with every tensor changed, in the order of `tensors`."""
        rows, states = (
            {layer: change(kind[layer]) for layer in sorted(kind)}
            for kind in (self.rows, self.states)
        )
        return Border(rows, states)

    def above(self, layer: int) -> "Border":
        """The part of the layers above this one."""
        rows, states = (
            {k: kept for k, kept in kind.items() if k > layer} for kind in (self.rows, self.states)
        )
        return Border(rows, states)


class Carried:
    """A cache for one piece of the texts: mixers start from `before` and leave `after`.

    transformers' mixer asks its cache for the recurrent state but hands it to the scan for single
    tokens only; so the installed functions take it from here, inside `with carried.active()`.
    """

    def __init__(self, before: Border) -> None:
        self.before, self.after = before, Border()
        self._layer, self._taken = -1, 0

    @contextmanager
    def active(self) -> Iterator[None]:
        """The installed functions start from `before` within this block."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)

    def get_conv_state(self, layer: int, state_idx: int = 0) -> None:
        """None: every piece, of one token too, takes the way of whole texts."""

    def get_recurrent_state(self, layer: int, state_idx: int = 0) -> None:
        """None, as `get_conv_state`."""

    def update_conv_state(self, u: Tensor, layer: int, conv_kernel_size: int) -> Tensor:
        """The convolution's input (b, d, l), unchanged; its last rows are kept."""
        self._layer, self._taken = layer, 0
        count = conv_kernel_size - 1
        if u.shape[2] < count:
            before = self.before.rows.get(layer)
            before = u.new_zeros(*u.shape[:2], count) if before is None else before
            kept = torch.cat([before, u], dim=2)
        else:
            kept = u
        # A copy: a view would keep the whole piece in memory.
        self.after.rows[layer] = kept[:, :, kept.shape[2] - count :].clone()
        return u

    def update_recurrent_state(self, state: Tensor, layer: int) -> None:
        """Keep the state after the piece.

        Raises RuntimeError: convolution and scan did not both start from `before`.
        """
        if self._taken != 2:
            raise RuntimeError(f"layer {layer} ran without what it should carry")
        self.after.states[layer] = state

    def take(self, kind: dict[int, Tensor]) -> Tensor | None:
        """What the running layer starts from, None before the first piece."""
        self._taken += 1
        return kind.get(self._layer)


_active: ContextVar[Carried | None] = ContextVar("carried", default=None)


def implementation(device: torch.device) -> str:
    """The name of the scan that a model in float32 or half precision runs on a device."""
    return "numba" if device.type == "cpu" else _gpu.scan_on_gpu()[0]


class _Leaves:
    """The two leaf functions of one of transformers' modules, its own and those installed."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._own = self.current
        # Under wrappers that call packages for a GPU wherever the tensors are.
        self._torch_scan, self._torch_conv = map(inspect.unwrap, self._own)

    @property
    def current(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """(scan, convolution), as the module finds them now."""
        return self._module.mamba_selective_scan, self._module.causal_conv1d_fn

    def put(self, scan: Callable[..., Any], conv: Callable[..., Any]) -> None:
        """Make the module find these."""
        self._module.mamba_selective_scan = scan  # type: ignore[attr-defined]
        self._module.causal_conv1d_fn = conv  # type: ignore[attr-defined]

    def install(self) -> None:
        """Make the module find each device's own."""
        self.put(self.scan, self.conv)

    def uninstall(self) -> None:
        """Make the module find its own."""
        self.put(*self._own)

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
        compiled = all(handles(v) for v in tensors)
        on_gpu = hidden_states.is_cuda and all(v.dtype != torch.float64 for v in tensors)
        scan = _gpu.scan_on_gpu()[1] if on_gpu else None
        if not compiled and scan is None:
            return self._torch_scan(*tensors, *args, **kwargs)
        for choice in ("use_mambapy", "use_associative_scan"):
            kwargs.pop(choice, None)
        if scan is not None:
            return scan(*tensors, *args, **kwargs)
        carried = _active.get()
        if carried is not None:
            kwargs["initial_state"] = carried.take(carried.before.states)
        return selective_scan(hidden_states, dt, A, B, C, *args, **kwargs)

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
        carried = _active.get()
        initial = None if carried is None else carried.take(carried.before.rows)
        return causal_conv(hidden_states, weight, bias, initial)


_LEAVES = [
    _Leaves(module)
    for module in (modeling_mamba, modeling_falcon_mamba, modeling_jamba, modeling_zamba)
]


def install() -> None:
    """Make transformers' S6 models use each device's own functions; twice is harmless."""
    for leaves in _LEAVES:
        leaves.install()


def uninstall() -> None:
    """Give transformers' S6 models their own functions back."""
    for leaves in _LEAVES:
        leaves.uninstall()


@contextmanager
def installed() -> Iterator[None]:
    """`install` for the length of a with block; what was there before comes back."""
    before = [leaves.current for leaves in _LEAVES]
    install()
    try:
        yield
    finally:
        for leaves, functions in zip(_LEAVES, before, strict=True):
            leaves.put(*functions)
