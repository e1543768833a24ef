"""Packages for a GPU, each used when it can be imported."""

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

_log = logging.getLogger(__name__)


@cache
def usable(module: str) -> Any | None:
    """The module, or None where it cannot be imported, which the log tells once.

    Only asked for where tensors are on a GPU. A package that was built for another torch or driver
    raises all kinds of errors when it is imported, and something else can do its work.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        _log.info("%s is not used: %s", module, error)
    except Exception as error:
        _log.warning("%s is not used, its import fails: %r", module, error)
    return None


@cache
def scan_on_gpu() -> tuple[str, Callable[..., Any] | None]:
    """The selective scan to use on a GPU, after its name; None for transformers' own loop."""
    if (found := usable("mamba_ssm.ops.selective_scan_interface")) is not None:
        return "mamba-ssm", found.selective_scan_fn
    if (found := usable("workers.kernels._scan_triton")) is not None:
        return "triton", found.selective_scan
    return "transformers", None
