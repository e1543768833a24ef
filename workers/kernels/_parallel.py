"""Compiled kernels over several threads, without a second thread pool of numba's.

numba's own parallel loops would keep OpenMP threads spinning beside torch's, take seconds more to
compile, and pay for waking every thread however small the work is.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch

# Below this many elementary updates, handing work to threads costs more than it saves.
_SMALL = 1 << 18


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="kernel")


def threads_for(tasks: int, work: int) -> int:
    """How many of torch's threads to use for ``tasks`` that make ``work`` updates together."""
    return 1 if work < _SMALL else max(1, min(torch.get_num_threads(), tasks))


def run(kernel: Callable[..., None], tasks: int, work: int, *args: Any) -> None:
    """Call ``kernel(first, last, *args)``, which releases the GIL, on ranges that cover tasks."""
    threads = threads_for(tasks, work)
    edges = [tasks * i // threads for i in range(threads + 1)]
    ranges = list(pairwise(edges))
    futures = [_pool(threads - 1).submit(kernel, *ends, *args) for ends in ranges[1:]]
    kernel(*ranges[0], *args)
    for future in futures:
        future.result()
