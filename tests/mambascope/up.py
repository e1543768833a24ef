"""`mambascope`, with workers that run the tests' entry."""

from functools import partial

from mambascope import cli
from mambascope.stack import Stack

if __name__ == "__main__":
    vars(cli)["Stack"] = partial(Stack, worker_module="tests.workers.serve")
    cli.main()
