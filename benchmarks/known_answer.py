"""Which methods find the token that must be read: prompts whose answer is known.

`pocket/recall-mamba` can answer a held-out prompt only by reading one token, the digit after the
noun that is asked for. A method points right on a prompt when its `token_relevance` at the last
layer is largest in magnitude on that token. Methods that read the scan alone point up to three
positions later, because the convolution of four taps has moved the token there.

Run: `python -m benchmarks --only known_answer`.
"""

from collections.abc import Iterator, Sequence

from benchmarks.row import Promise, Row, Spread
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


def rows(quick: bool) -> Iterator[Row]:
    """By method, the share of prompts whose peak is the answer; `contribution` has a promise."""
    prompts = recall_prompts(HELD_OUT_SEED, PROMPTS // 4 if quick else PROMPTS, PAIRS)
    settings = Settings()
    found = peaks(load(locate(DEFAULT_MODEL, settings), settings), prompts)
    exact, later = shares(found, prompts), shares(found, prompts, offsets=(1, 2, 3))
    for method in Method:
        share = 100 * exact[method]
        yield Row(
            what=f"{method} peaks on the answer, {len(prompts)} held-out prompts",
            measured=Spread.of([share]),
            unit="%",
            promise=Promise(">=", 95.0) if method is Method.CONTRIBUTION else None,
            note=f"one to three positions later: {later[method]:.1%}",
            samples={"ours": [share]},
        )
