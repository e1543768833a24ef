"""A GPU where there is none."""

import os
from collections.abc import Iterator

import pytest
import torch

from workers.kernels import _gpu, mamba


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor says that it is on a GPU, so that each choice falls as it does there."""
    if os.environ["TRITON_INTERPRET"] != "0":
        monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda _: False), raising=False)
        monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda _: True), raising=False)


@pytest.fixture
def fresh_choice() -> Iterator[None]:
    """What can be imported is found out anew, and transformers has its own functions."""

    def forget() -> None:
        _gpu.usable.cache_clear()
        _gpu.scan_on_gpu.cache_clear()
        mamba.uninstall()

    forget()
    yield
    forget()
