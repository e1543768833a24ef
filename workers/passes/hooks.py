"""What listens inside a model while a pass lasts."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from workers.kernels.steps import hearing
from workers.mixers.sites import Site, reading
from workers.passes.batch import Batch


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Call `hook` with what the module was given and gives, also by keyword."""
    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def watching(batch: Batch, tokens: slice) -> Iterator[None]:
    """Let who watches see the neurons of the tokens that pass inside."""
    watch = batch.watch
    if watch is None:
        yield
        return
    with ExitStack() as hooks:
        steps = hooks.enter_context(hearing())
        for site in watch.sites:
            if site.mixer is not None:
                handle = site.mixer.register_forward_pre_hook(lambda *_: steps.listen())
                hooks.callback(handle.remove)

        def see(site: Site, x: Tensor) -> None:
            found = [] if site.mixer is None else steps.take()
            watch.see(site, x.detach(), tokens.start, found)

        shape = (batch.ids.shape[0], tokens.stop - tokens.start)
        hooks.enter_context(reading(watch.sites, shape, see))
        yield
