"""A child process whose life is tied to its parent's."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel SIGKILL this process when the thread that started it ends.

    prctl(2), PR_SET_PDEATHSIG. A parent that died before the call is noticed after it: the parent
    is another process by then. Linux only; elsewhere a child still ends when its parent's socket
    closes, but not in the middle of its work.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
