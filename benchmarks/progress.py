"""How true the seconds are that a running job is said to take still, in its first tenth and later.

Of jobs of different kinds, each on an installation that has measured nothing, and once more after.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.jobs_here import Here, opened
from benchmarks.row import Promise, Row, Spread
from benchmarks.shape import Shape, gpt2_shape, shape, text
from jobs import Attempt, Jobs
from jobs.keys import Keys
from jobs.store import JobStore
from schemas.job import Progress
from schemas.request import JobRequest

# Shares of a job's time at which a client looks.
MARKS = (0.1, 0.25, 0.5, 0.75, 0.9)
POCKET = ("pocket/recall-mamba", "pocket/recall-mamba2", "pocket/recall-gpt2")
NOUNS = ("apple", "river", "stone", "house", "tree")


class HeardStore(JobStore):
    """A store that remembers when it was told what."""

    heard: list[tuple[float, Progress]]

    def progress(self, attempt: Attempt, progress: Progress) -> None:
        self.heard.append((time.perf_counter(), progress))
        super().progress(attempt, progress)


@dataclass(frozen=True)
class Told:
    """One job: its seconds, and what was said of the rest at each mark, over what was true."""

    seconds: float
    ratios: dict[float, float]
    longest_silence: float
    silent: str

    def off(self, since: float) -> list[float]:
        """By what factor each estimate missed, either way, from a mark on."""
        return [max(r, 1 / r) for mark, r in self.ratios.items() if mark >= since]


def rows(quick: bool) -> Iterator[Row]:
    model = shape(quick)
    with opened(model.settings) as here:
        for what, fields in jobs_of(model, quick).items():
            forget(here)
            for when, since in (("nothing measured", 0.25), ("the second of its kind", 0.1)):
                told = watch(here, JobRequest.model_validate(fields))
                yield Row(
                    what=f"{what}, {when}: the rest is said, {since:.0%} to 90%",
                    against="the seconds it took",
                    measured=Spread.of(told.off(since)),
                    promise=Promise("<=", 2.0) if told.seconds > 10 else None,
                    ours=Spread.of([told.seconds]),
                    note="said / true "
                    + ", ".join(f"{r:.2f} at {mark:.0%}" for mark, r in told.ratios.items())
                    + f"; longest silence {told.longest_silence:.1f} s ({told.silent})",
                )


def watch(here: Here, request: JobRequest) -> Told:
    """Run a job and hear what it says of itself."""
    store = HeardStore(here.jobs.redis, here.runtime.settings)
    store.heard = []
    listening: Jobs = replace(here.jobs, store=store)
    began = time.perf_counter()
    whole = Here(listening, replace(here.runtime, jobs=listening)).run(request).seconds
    silences = zip(store.heard, store.heard[1:], strict=False)
    longest, silent = max((b[0] - a[0], f"{a[1].stage}: {a[1].detail}") for a, b in silences)
    return Told(
        whole,
        {mark: said(store.heard, began + mark * whole) / (whole * (1 - mark)) for mark in MARKS},
        longest,
        silent,
    )


def said(heard: list[tuple[float, Progress]], at: float) -> float:
    """The seconds last said before a moment; a hundredth where none are left or known."""
    known = [progress.remaining_seconds for when, progress in heard if when <= at]
    return max(known[-1] or 0.01, 0.01) if known else 0.01


def forget(here: Here) -> None:
    """An installation that has measured nothing, its models not in memory."""
    here.jobs.redis.delete(Keys(here.runtime.settings.key_prefix).costs)
    here.runtime.models.release()


def jobs_of(model: Shape, quick: bool) -> dict[str, dict[str, Any]]:
    """Requests by what they are: many texts, long ones, experiments, figures, several models."""
    size = 1 if quick else 4
    facts = [
        {"prompt": text(24 + at)[at:], "answer": "x", "paraphrases": [text(32 + at)[at:]]}
        for at in range(2)
    ]
    sets = [{"found_by": "variance"}, {"found_by": "knowledge_neurons"}]
    return {
        "many short texts": {"texts": questions(250 * size), "figures": False},
        "one long text, matrices": {"models": [model.name], "texts": [text(384 * size)]},
        "every row of contribution": {
            "models": [model.name],
            "texts": [text(64 * size), text(32 * size)],
            "attention": {"methods": ["contribution"], "rows": "all"},
            "figures": False,
        },
        "facts and interventions": {
            "models": [model.name],
            "texts": [text(64)],
            "attention": None,
            "layers": [0, model.layers // 2, model.layers - 1],
            "knowledge_neurons": {"facts": facts, "threshold": 0.01, "share": 0.1},
            "perturbation": {"sets": sets, "interventions": [{"kind": "zero"}, {"kind": "noise"}]},
        },
        "figures": {"texts": questions(15 * size), "layers": "all"},
        "four models": {
            "models": [*POCKET, model.name],
            "texts": questions(5 * size),
            "layers": "all",
            "figures": False,
            "universality": {},
        },
        "GPT-2 shape": {"models": [gpt2_shape()], "texts": [text(128 * size), text(90 * size)]},
    } | (
        {}
        if quick
        else {
            "one row of a long text": {
                "models": [model.name],
                "texts": [text(3000)],
                "attention": {"rows": "target"},
            }
        }
    )


def questions(count: int) -> list[str]:
    """Texts of a few pairs of words and digits, each with its question."""
    draw = random.Random(0)

    def pairs() -> str:
        return " ".join(
            f"{draw.choice(NOUNS)} {draw.randint(0, 9)}" for _ in range(draw.randint(2, 8))
        )

    return [f"{pairs()} {draw.choice(NOUNS)}" for _ in range(count)]
