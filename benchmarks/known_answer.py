"""Which methods find the token that must be read: prompts whose answer is known.

`pocket/recall-mamba` can answer a held-out prompt only by reading one token, the digit after the
noun that is asked for. A method points right on a prompt when its `token_relevance` at the last
layer is largest in magnitude on that token. Methods that read the scan alone point up to three
positions later, because the convolution of four taps has moved the token there.

Run: `python -m benchmarks.known_answer`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from catalogue.locate import locate
from schemas.names import DEFAULT_MODEL, Method
from schemas.settings import Settings
from training.recall_data import HELD_OUT_SEED, RecallPrompt, recall_prompts
from workers.analyses.maps import ReadingPlan
from workers.analyses.methods import read_layers
from workers.models.loading import LoadedModel, load
from workers.tracing import TraceRequest, trace

PROMPTS = 200
PAIRS = range(2, 9)


def peaks(loaded: LoadedModel, prompts: Sequence[RecallPrompt]) -> dict[Method, list[int]]:
    """By method, the position of each prompt's largest |token_relevance| at the last layer."""
    ids = [[token.id for token in loaded.tokeniser.encode(prompt.text)] for prompt in prompts]
    last = len(loaded.description.layers) - 1
    traces = trace(loaded, [TraceRequest(row) for row in ids], set(range(last + 1)), {last})
    found: dict[Method, list[int]] = {method: [] for method in Method}
    for traced in traces:
        plan = ReadingPlan(frozenset({last}), list(Method), traced.target.position, 1e-4)
        *_, reading = read_layers(traced.mixers, plan)
        for method, maps in reading.maps.items():
            found[method].append(int(maps.token_relevance.abs().argmax()))
    return found


def shares(
    found: dict[Method, list[int]],
    prompts: Sequence[RecallPrompt],
    offsets: Sequence[int] = (0,),
) -> dict[Method, float]:
    """By method, the share of prompts whose peak is one of `offsets` tokens after the answer's."""
    return {
        method: sum(
            position - prompt.answer_position in offsets
            for position, prompt in zip(positions, prompts, strict=True)
        )
        / len(prompts)
        for method, positions in found.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--json", type=Path, help="also write the shares here")
    arguments = parser.parse_args()
    prompts = recall_prompts(HELD_OUT_SEED, arguments.prompts, PAIRS)
    settings = Settings()
    found = peaks(load(locate(DEFAULT_MODEL, settings), settings), prompts)
    exact, later = shares(found, prompts), shares(found, prompts, offsets=(1, 2, 3))
    table = Table(title=f"{DEFAULT_MODEL}, last layer, {len(prompts)} held-out prompts")
    for heading in ("method", "peaks on the answer", "1 to 3 positions later"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method in Method:
        table.add_row(method, f"{exact[method]:.1%}", f"{later[method]:.1%}")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps({"on_answer": exact, "1_to_3_later": later}, indent=2))


if __name__ == "__main__":
    main()
