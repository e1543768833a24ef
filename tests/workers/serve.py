"""`python -m tests.workers.serve`: a worker like `python -m workers`, with the tests' entry."""

import sys

from schemas.settings import Settings
from workers.__main__ import serve

if __name__ == "__main__":
    sys.exit(serve(Settings(), sys.argv[1] if len(sys.argv) > 1 else "tests.workers.entries"))
