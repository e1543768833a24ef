"""Which methods find the token that must be read: prompts whose answer is known.

The recall models can answer a held-out prompt only by reading one token, the digit after the noun
that is asked for. A method points right on a prompt when its `token_relevance` at a layer is
largest in magnitude on that token: at the last layer of `recall-mamba` and `recall-gpt2`, at the
first of `recall-mamba2`, which does its reading there. Methods that read the scan alone point up to
three positions later, because the convolution of four taps has moved the token there.

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
from workers.traces import TraceRequest
from workers.tracing import trace

PROMPTS = 200
PAIRS = range(2, 9)
# The layer at which each model reads its answer.
READS = {DEFAULT_MODEL: 1, "pocket/recall-mamba2": 0, "pocket/recall-gpt2": 1}


def peaks(
    loaded: LoadedModel, prompts: Sequence[RecallPrompt], layer: int
) -> dict[Method, list[int]]:
    """By method, the position of each prompt's largest |token_relevance| at a layer."""
    ids = [[token.id for token in loaded.tokeniser.encode(prompt.text)] for prompt in prompts]
    traces = trace(loaded, [TraceRequest(row) for row in ids], set(range(layer + 1)), {layer})
    found: dict[Method, list[int]] = {method: [] for method in Method}
    for traced in traces:
        plan = ReadingPlan(frozenset({layer}), list(Method), traced.target.position, 1e-4)
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
    """By model and method, the share of prompts whose peak is the answer."""
    prompts = recall_prompts(HELD_OUT_SEED, PROMPTS // 4 if quick else PROMPTS, PAIRS)
    settings = Settings()
    for name, layer in READS.items():
        found = peaks(load(locate(name, settings), settings), prompts, layer)
        exact, later = shares(found, prompts), shares(found, prompts, offsets=(1, 2, 3))
        for method in Method if name == DEFAULT_MODEL else [Method.CONTRIBUTION]:
            share = 100 * exact[method]
            model = name.removeprefix("pocket/")
            yield Row(
                what=f"{method} peaks on the answer, {model}, {len(prompts)} held-out prompts",
                measured=Spread.of([share]),
                unit="%",
                promise=Promise(">=", 95.0) if method is Method.CONTRIBUTION else None,
                note=f"layer {layer}; one to three positions later: {later[method]:.1%}",
                samples={"ours": [share]},
            )
