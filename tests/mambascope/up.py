"""`mambascope`, with workers that run the tests' entry, or another module that is named."""

import os
from functools import partial

from mambascope import analyze, cli
from mambascope.stack import Stack

if __name__ == "__main__":
    worker = os.environ.get("TESTS_WORKER_MODULE", "tests.workers.serve")
    for module in (analyze, cli):
        vars(module)["Stack"] = partial(Stack, worker_module=worker)
    cli.main()
