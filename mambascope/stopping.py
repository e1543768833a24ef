"""Signals that ask a command to stop, as one exception."""

import signal
from types import FrameType

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopAsked(BaseException):
    """SIGINT, SIGTERM or SIGHUP came."""


def heed_signals() -> None:
    """From now on the first of these signals raises StopAsked, and later ones do nothing.

    So what was started is stopped in order, however often Ctrl-C is pressed.
    """
    for number in _ASKING:
        signal.signal(number, _ask_to_stop)


def _ask_to_stop(signum: int, frame: FrameType | None) -> None:
    for number in _ASKING:
        signal.signal(number, signal.SIG_IGN)
    raise StopAsked
