"""One tracing pass for the jobs that were gathered: each takes its own texts' outcomes from it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import structlog

from catalogue.admission import admit
from catalogue.passing import captured_bytes
from catalogue.selection import Selection
from catalogue.tokeniser import Tokeniser
from jobs import Attempt
from schemas.names import Block
from schemas.problem import ProblemError
from schemas.request import JobRequest
from schemas.settings import Settings
from workers.mixers.sites import Site, sites_of
from workers.models.loading import LoadedModel
from workers.neuron_reading import NeuronReading, Sample
from workers.traces import Outcome, TraceRequest
from workers.tracing import trace_each

log = structlog.get_logger("workers.shared_pass")

Outcomes = dict[int, Outcome]
"""A job's outcomes by the index of the text."""


class SharedPass:
    """The passes through the models of jobs that run together.

    A job alone streams its texts, a batch at a time. Of several jobs, the first to ask for a
    model's traces has all of them traced; they are small, so that their captures fit into memory.
    One that would fail by itself is left out, to fail by itself; so is everyone when the pass as a
    whole fails.
    """

    def __init__(self, attempts: Sequence[Attempt], settings: Settings) -> None:
        self._attempts = attempts
        self._settings = settings
        self._traced: dict[str, dict[str, Outcomes]] = {}
        self._readings: dict[tuple[str, str], NeuronReading] = {}

    def reading(self, attempt: Attempt, loaded: LoadedModel) -> NeuronReading | None:
        """What the pass has read of the job's neurons, once its outcomes have been taken.

        Handed out once; None where the job asks for no neurons.
        """
        return self._readings.pop((loaded.name, attempt.job_id), None)

    def outcomes(
        self,
        attempt: Attempt,
        loaded: LoadedModel,
        chosen: Selection,
        room: int,
        sample: Sample | None = None,
    ) -> Iterator[tuple[int, Outcome]]:
        """One job's texts under one model, shortest first as `trace_each` yields them.

        Each is handed out once, so that its captures can be dropped. `chosen` is what to trace, the
        same for all that were gathered (`jobs.gathering.pass_of`). One batch's activations, and the
        captures of a shared pass, take at most `room` bytes. `sample` is filled on the way, for a
        job that runs alone.
        """
        if len(self._attempts) > 1:
            if loaded.name not in self._traced:
                self._traced[loaded.name] = self._trace_all(loaded, chosen, room)
            found = self._traced[loaded.name].pop(attempt.job_id, None)
            if found is not None:
                for text in list(found):
                    yield text, found.pop(text)
                return
        requests = trace_requests(attempt.request, loaded.tokeniser)
        requests = self._read_neurons(attempt, loaded, chosen, requests, sample)
        yield from trace_each(
            *(loaded, requests, chosen.captured, chosen.gradient, room),
            attributed=_attributed(requests, chosen),
        )

    def _read_neurons(
        self,
        attempt: Attempt,
        loaded: LoadedModel,
        chosen: Selection,
        requests: list[TraceRequest],
        sample: Sample | None = None,
    ) -> list[TraceRequest]:
        """The requests of a job with what reads their neurons, where it asks for any."""
        request, section = attempt.request, attempt.request.neurons
        if not chosen.neurons:
            return requests
        reading = NeuronReading(
            measured_sites(loaded, chosen, request),
            [len(text.ids) for text in requests],
            active_above=0.0 if section is None else section.active_above,
            top_tokens=0 if section is None else section.top_tokens,
            sample=sample,
        )
        self._readings[loaded.name, attempt.job_id] = reading
        return [replace(text, reading=reading) for text in requests]

    def _trace_all(self, loaded: LoadedModel, chosen: Selection, room: int) -> dict[str, Outcomes]:
        owners, requests = [], []
        for attempt in self._attempts:
            try:
                admit(attempt.request, self._settings)
                texts = trace_requests(attempt.request, loaded.tokeniser)
            except (ProblemError, ValueError):
                continue  # it is its own to report
            owners += [attempt.job_id] * len(texts)
            requests += self._read_neurons(attempt, loaded, chosen, texts)
        found: dict[str, Outcomes] = {job_id: {} for job_id in owners}
        held = captured_bytes(loaded.description, chosen) * sum(len(text.ids) for text in requests)
        if held > room:
            return {}
        try:
            for index, outcome in trace_each(
                *(loaded, requests, chosen.captured, chosen.gradient, room - held),
                attributed=_attributed(requests, chosen),
            ):
                found[owners[index]][requests[index].text] = outcome
        except Exception as error:
            log.warning("a shared pass failed; each job runs alone", error=repr(error))
            return {}
        return found


def measured_sites(loaded: LoadedModel, chosen: Selection, request: JobRequest) -> list[Site]:
    """Where the neurons are that a job has measured."""
    if request.neurons is None:
        return []
    return sites_of(loaded.model, chosen.neurons, request.neurons.blocks or tuple(Block))


def _attributed(requests: Sequence[TraceRequest], chosen: Selection) -> list[Site]:
    """The MLPs whose neurons' gradients are wanted, the same for all texts of a pass."""
    reading = next((text.reading for text in requests if text.reading is not None), None)
    sites = () if reading is None else reading.measured
    return [site for site in sites if site.block is Block.MLP and site.layer in chosen.attributed]


def trace_requests(request: JobRequest, tokeniser: Tokeniser) -> list[TraceRequest]:
    """What is to be traced of each of a job's texts. Raises ValueError for no single token."""
    target = request.target
    token, contrast = (
        None if string is None else tokeniser.single_token(string)
        for string in (target.token, target.contrast)
    )
    return [
        TraceRequest(
            ids=tokeniser.ids(text),
            position=target.position,
            token=token,
            contrast=contrast,
            text=index,
        )
        for index, text in enumerate(request.texts)
    ]
