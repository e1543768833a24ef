"""A process that draws figures for the runner: `python -m workers.figures.artist`.

Only a `Studio` starts it, at the other end of a socket. It is asked for one figure at a time and
answers with its PNG bytes, or with the exception that drawing raised.
"""

import argparse
import os
import pickle
import signal
import traceback
from multiprocessing.connection import Connection

from pydantic import TypeAdapter

from schemas.job import Shows
from workers.figures.drawing import page_about
from workers.figures.parts import Part
from workers.tether import die_with_parent

# The computation goes first where the two compete for a core.
NICENESS = 5
_PART: TypeAdapter[Part] = TypeAdapter(Part)


def serve(connection: Connection) -> None:
    """Draw until the other end is gone. A part is sent once, with the first of its figures."""
    part: Part | None = None
    while True:
        try:
            is_new, shows = connection.recv()
            if is_new:
                part = _PART.validate_json(connection.recv_bytes())
        except EOFError:
            return
        assert part is not None
        connection.send(_drawn(part, shows))


def _drawn(part: Part, shows: Shows) -> bytes | Exception:
    try:
        return page_about(part, shows).render()
    except Exception as error:
        return _portable(error)


def _portable(error: Exception) -> Exception:
    """The exception as it can be sent, with a note of where it was raised."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        # Some cannot be built again from their arguments.
        error = RuntimeError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)
    error.add_note(f"In the process that drew:\n{''.join(traceback.format_exception(error))}")
    return error


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="workers.figures.artist")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    serve(Connection(arguments.channel))


if __name__ == "__main__":
    main()
