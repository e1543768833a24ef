"""Compiled kernels over several threads, without numba's own thread pool.

numba's own parallel loops would keep OpenMP threads spinning beside torch's, take seconds more to
compile, and pay for waking every thread however small the work is.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch

from workers.kernels import pulse

# Below this many elementary updates, handing work to threads costs more than it saves.
_SMALL = 1 << 18


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads beside the caller's; made anew only when torch's number of threads is changed."""
    return ThreadPoolExecutor(threads, thread_name_prefix="kernel")


def threads_for(tasks: int, work: int) -> int:
    """How many of torch's threads to use for `tasks` that make `work` updates together."""
    return 1 if work < _SMALL else max(1, min(torch.get_num_threads(), tasks))


def run(
    kernel: Callable[..., None],
    tasks: int,
    work: int,
    *args: Any,
    own: tuple[Any, ...] = (),
    grain: int | None = None,
) -> None:
    """Call `kernel(first, last, *args, *own)`, which releases the GIL, until tasks are covered.

    Threads take ranges of `grain` tasks as they get to them, so a thread that the system holds
    up leaves its share to the others. `own` are arrays whose first axis is the thread: each
    thread passes its own part, and there are no more threads than parts.
    """
    threads = min([threads_for(tasks, work), *(len(array) for array in own)])
    grain = grain or max(1, -(-tasks // (threads * 4 if threads > 1 else 1)))
    starts = iter(range(0, tasks, grain))

    def take(thread: int) -> None:
        parts = [array[thread] for array in own]
        for first in starts:
            pulse.beat()
            kernel(first, min(first + grain, tasks), *args, *parts)

    futures = []
    if threads > 1:
        pool = _pool(torch.get_num_threads() - 1)
        futures = [pool.submit(take, thread) for thread in range(1, threads)]
    take(0)
    for future in futures:
        # One that has not begun by now has nothing left to do.
        if not future.cancel():
            future.result()
