"""What a job is foretold to do, from its request and what lies on this disk."""

import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import structlog
import torch

from catalogue.cached import description, tokeniser
from catalogue.locate import UnknownModel, locate
from catalogue.tokeniser import Tokeniser
from catalogue.workload import Workload, workload
from jobs.costs import Cost, Costs
from schemas.request import JobRequest
from schemas.settings import Settings
from workers.forecasting.efforts import (
    averaging_seconds,
    loading_seconds,
    matching_seconds,
    model_efforts,
    rendering_seconds,
)
from workers.forecasting.forecast import ModelPhase, Phase
from workers.forecasting.gallery import Gallery, gallery

log = structlog.get_logger("workers.forecasting")

# Phases that took less say more about what else the machine did than about longer ones.
_LEAST_SECONDS = 0.5
_CPUS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Plan:
    """The phases of a job in foretold seconds; `known`, the share of its models that they cover.

    layers: those that will be analysed, over all texts and models; None while a model is unknown.
    """

    efforts: dict[ModelPhase, float]
    gallery: Gallery
    known: float
    layers: int | None


def plan(request: JobRequest, settings: Settings, resident: Collection[str], artists: int) -> Plan:
    """What a job will do, as far as its models are on this disk; `resident` are in memory.

    artists: the processes that draw.

    A model that cannot be read is left out: what is wrong with it, its own stage will say.
    """
    efforts: dict[ModelPhase, float] = {}
    works = []
    for name in request.models:
        try:
            work, own = _of_model(request, name, settings)
        except Exception as error:
            log.debug("a model's share of a job is not foretold", model=name, cause=repr(error))
            continue
        works.append(work)
        efforts |= {(name, phase): seconds for phase, seconds in own.items()}
        loading = 0.0 if name in resident else loading_seconds(work.model)
        efforts[name, Phase.LOADING] = loading
    drawn = gallery(request, works, artists)
    if works:
        across = averaging_seconds(works)
        if request.universality is not None:
            across += matching_seconds(request.universality, works)
        efforts["", Phase.MATCHING] = across
        efforts["", Phase.BESIDE] = efforts["", Phase.DRAWING] = drawn.seconds
        efforts["", Phase.STORING] = rendering_seconds(works, drawn.figures)
    layers = None
    if len(works) == len(request.models):
        layers = sum(len(work.selection.captured) * len(work.lengths) for work in works)
    return Plan(efforts, drawn, len(works) / len(request.models), layers)


def _of_model(
    request: JobRequest, name: str, settings: Settings
) -> tuple[Workload, dict[Phase, float]]:
    location = locate(name, settings)
    path = location.tokeniser_path
    if path is None:
        raise UnknownModel(name)
    reader, described = tokeniser(path), description(location, settings)
    lengths = [reader.count(text) for text in request.texts]
    work = workload(request, described, lengths, settings)
    controls = 0
    if request.perturbation is not None:
        controls = sum(reader.count(text) for text in request.perturbation.control_texts)
    return work, model_efforts(request, work, _prompts(request, reader), controls)


def _prompts(request: JobRequest, reader: Tokeniser) -> list[int]:
    section = request.knowledge_neurons
    facts = () if section is None else section.facts
    return [
        reader.count(prompt + fact.answer)
        for fact in facts
        for prompt in (fact.prompt, *fact.paraphrases)
    ]


class Experience:
    """What phases of jobs have cost on this machine, by model, and over all models."""

    def __init__(self, costs: Costs, settings: Settings) -> None:
        self._costs = costs
        self._settings = settings

    def of(self, asked: Iterable[ModelPhase]) -> dict[ModelPhase, Cost]:
        """The cost of each phase: its model's, or else any model's; those never measured left out.

        One round trip.
        """
        names = {at: self._names(at) for at in asked}
        known = self._costs.known(dict.fromkeys(name for both in names.values() for name in both))
        return {
            at: known[name] for at, both in names.items() for name in both[::-1] if name in known
        }

    def learn(self, measured: Mapping[ModelPhase, tuple[float, float]]) -> None:
        """Take in (foretold, spent) seconds of a job's phases."""
        found: dict[str, tuple[float, float]] = {}
        for at, (foretold, spent) in measured.items():
            if spent < _LEAST_SECONDS:
                continue
            for name in self._names(at):
                before = found.get(name, (0.0, 0.0))
                found[name] = (before[0] + foretold, before[1] + spent)
        self._costs.learn(found)

    def _names(self, at: ModelPhase) -> Sequence[str]:
        model, phase = at
        machine = machine_of(self._settings, model)
        return list(dict.fromkeys(f"{machine}|{whose}|{phase}" for whose in (model, "")))


def machine_of(settings: Settings, model: str) -> str:
    """A name of what computes: another machine of the installation has costs of its own."""
    device = settings.for_model(model).device or settings.device
    if device.startswith("cuda"):
        return _gpu(device)
    return f"{_processor()} x{settings.threads or torch.get_num_threads()}"


@cache
def _gpu(device: str) -> str:
    return torch.cuda.get_device_name(device)


@cache
def _processor() -> str:
    try:
        lines = _CPUS.read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
