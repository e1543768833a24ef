"""Denormal numbers count as zero, in every thread that computes.

Long decays end in numbers below 2^-126, which carry no weight in any sum here, and which a
processor may handle many times slower than others. The mode belongs to a thread and is inherited
by the threads that it starts: set before torch has any, it holds in torch's pool, in the kernels'
and in autograd's, which on the CPU runs in the thread that calls it.
"""

import torch

# Elements that each of torch's threads computes at least; its smallest share is half of this.
_SHARE = 1 << 16


def flush_denormals() -> bool:
    """Set the mode in this thread and those it starts from now on; False where there is none."""
    return torch.set_flush_denormal(True)


def kept_denormals() -> int:
    """Denormal results, of one product in each of torch's threads, that were not flushed.

    Zero once `flush_denormals` ran early enough: before torch started its threads.
    """
    small = torch.full((_SHARE * torch.get_num_threads(),), 2.0**-100)
    # Bits, not values: a thread in the mode takes another's denormal for zero.
    return int(torch.count_nonzero((small * 2.0**-30).view(torch.int32)))
