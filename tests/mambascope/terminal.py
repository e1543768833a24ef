"""What a process shows in a terminal."""

import os


def shown_until_closed(ours: int) -> bytes:
    """All that comes from our end of a pseudoterminal until the other closes; then it is closed."""
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # Linux's end of a terminal.
    os.close(ours)
    return shown
