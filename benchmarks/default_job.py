"""The default job (four layers, three methods, figures) against a script of public parts."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
from transformers import MambaForCausalLM

from benchmarks.agreement import require_close
from benchmarks.jobs_here import Here, opened
from benchmarks.peers import job as script
from benchmarks.peers import passes
from benchmarks.row import Promise, Row
from benchmarks.shape import WHOLE, shape, text
from benchmarks.timing import Contest, Effort, take_turns
from catalogue.locate import locate
from schemas.names import DEFAULT_MODEL, Method
from schemas.request import JobRequest
from schemas.result import TextResult

TOKENS, CHANNELS = 256, 1536


def rows(quick: bool) -> Iterator[Row]:
    mpl.use("agg")
    with opened(shape(quick).settings) as here:
        require_same_numbers(here)
        yield _against_script(here, quick)


def require_same_numbers(here: Here) -> None:
    """The script, whole, against a job on the bundled model. Raises AssertionError."""
    prompt = "apple 3 river 7 stone 1 river"
    result = here.run(JobRequest(texts=[prompt], figures=False)).document.results[0]
    path = locate(DEFAULT_MODEL, here.runtime.settings).path
    assert path is not None
    model = passes.load(path)
    with passes.own_scan(model):
        found = script.analyse(model, job_of(result), script.Clock())
    for (layer, method), reading in found.items():
        attention = result.attention_analysis[layer].methods[Method(method)]
        heatmap = np.zeros(reading.matrix.shape)
        for query, row in zip(attention.heatmap.queries, attention.heatmap.rows, strict=True):
            heatmap[query, : len(row)] = row
        for theirs, ours in (
            (reading.matrix, heatmap),
            (reading.token_relevance, attention.token_relevance),
            (reading.neuron_activation, attention.neurons.activation),
            (reading.neuron_importance, attention.neurons.importance),
        ):
            require_close(f"layer {layer}, {method}", ours, theirs)


def job_of(result: TextResult, channels: int | None = None) -> script.Job:
    """What the script is asked for: what the job has answered."""
    return script.Job(
        tokens=[token.text for token in result.tokens],
        ids=[token.id for token in result.tokens],
        layers=sorted(result.attention_analysis),
        channels=channels,
    )


def _against_script(here: Here, quick: bool) -> Row:
    tokens, share, drawn = (32, 4, 1) if quick else (TOKENS, 16, None)
    model = shape(quick)
    request = JobRequest(models=[model.name], texts=[text(tokens)])
    ran = here.run(request)
    result = ran.document.results[0]
    other = _Script(passes.load(model.directory), job_of(result, share), drawn)
    _require_same_neurons(result, other)
    seconds = take_turns(
        {"ours": lambda: here.run(request).seconds, "other": other.seconds},
        Effort(1, 1.0, warm=True) if quick else Effort(3, 240.0),
    )
    figures = ran.artifacts - 1
    return Contest(
        what=f"the default job, {model.told}, L={tokens}, {figures} figures, model in memory",
        against="a script of public parts",
        promise=Promise(">=", 15),
        note="the job also measures the neurons, which the script does not; "
        f"the script's hidden attention on {share} of {CHANNELS} channels, scaled"
        + (", its figures on one of each kind" if quick else ""),
        promised_at=f"{WHOLE.told}, L={TOKENS}" if quick else "",
    ).judged(seconds["ours"], seconds["other"])


class _Script:
    """The script on a share of the work."""

    def __init__(self, model: MambaForCausalLM, job: script.Job, drawn: int | None) -> None:
        self._model, self.job, self._drawn = model, job, drawn

    def analyse(self, clock: script.Clock) -> script.Readings:
        with passes.own_scan(self._model):
            return script.analyse(self._model, self.job, clock)

    def seconds(self) -> float:
        """What the whole would take: the shares scaled."""
        clock = script.Clock()
        found = self.analyse(clock)
        with tempfile.TemporaryDirectory() as folder:
            script.draw(self.job, found, Path(folder), clock, self._drawn)
        layers, methods = len(self.job.layers), len(script.METHODS)
        whole = {"sheets": layers * methods, "strips": layers, "overviews": methods}
        scale = {"attention": CHANNELS / (self.job.channels or CHANNELS)}
        if self._drawn is not None:
            scale |= {kind: count / self._drawn for kind, count in whole.items()}
        return sum(spent * scale.get(stage, 1.0) for stage, spent in clock.seconds.items())


def _require_same_neurons(result: TextResult, other: _Script) -> None:
    """The channels that the script runs have the numbers of the job's document."""
    share = other.job.channels
    for (layer, method), reading in other.analyse(script.Clock()).items():
        if method == "rollout":
            # It multiplies whole matrices, which a share of the channels does not give.
            continue
        neurons = result.attention_analysis[layer].methods[Method(method)].neurons
        for theirs, ours in (
            (reading.neuron_activation, neurons.activation),
            (reading.neuron_importance, neurons.importance),
        ):
            assert ours is not None
            # As a share of the largest of all channels, so those not run count as they are.
            whole = np.asarray(ours).copy()
            whole[:share] = theirs[:share]
            require_close(f"layer {layer}, {method}", ours, whole)
