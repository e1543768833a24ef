"""The neurons of a job's models against each other: at which tokens, and what was read there."""

from collections.abc import Sequence

from catalogue.cached import tokeniser
from catalogue.locate import locate
from catalogue.selection import neuron_layers
from schemas.names import Block
from schemas.problem import FieldError, ProblemError
from schemas.request import JobRequest
from schemas.sections import FEWEST_SHARED_TOKENS, UniversalitySection
from schemas.settings import Settings
from schemas.universality import Universality
from workers.analyses.alignment import shared_tokens
from workers.analyses.neuron_samples import ModelSample
from workers.analyses.universality import universality
from workers.mixers.sites import in_words, sites_of
from workers.models.fetching import fetch
from workers.models.loading import LoadedModel
from workers.neuron_reading import Sample


class Matching:
    """Gathers one sample a model, at the tokens that all models share, and compares them."""

    def __init__(
        self, request: JobRequest, section: UniversalitySection, settings: Settings
    ) -> None:
        self._request, self._section, self._settings = request, section, settings
        self._places: list[list[list[int]]] = []
        self._samples: list[ModelSample] = []

    def sample(self, index: int, loaded: LoadedModel) -> Sample:
        """What is to be filled while a model of the request reads the texts.

        Raises ProblemError: invalid-request where the models share too few tokens; what `fetch` and
        `Tokeniser.load` raise, since all models' tokenizers must have read the texts before.
        """
        if not self._places:
            self._places = self._shared()
        layers = neuron_layers(self._request, loaded.description)
        blocks = self._section.blocks or tuple(Block)
        sites = sites_of(loaded.model, layers, blocks)
        if not sites:
            detail = (
                f"None of the layers of `{loaded.name}` that were asked for has "
                f"{in_words(blocks)} to be compared: name others, or leave the model out."
            )
            raise ProblemError.of_field(FieldError(pointer="/universality", detail=detail))
        return Sample(sites, self._places[index])

    def take(self, model: str, sample: Sample) -> None:
        """Keep a filled sample, standardised."""
        self._samples.append(ModelSample.of(model, sample.tokens, sample.hand_over()))

    def compare(self) -> Universality:
        """Every pair of models, once all samples are taken."""
        return universality(self._samples, self._section.threshold, self._request.seed)

    def _shared(self) -> list[list[list[int]]]:
        """Of each model and text the positions that are compared."""
        tokenisers = []
        for name in self._request.models:
            found = fetch(locate(name, self._settings))
            path = found.tokeniser_path or found.path
            if path is None:
                raise ValueError(f"`{name}` has no directory")
            tokenisers.append(tokeniser(path))
        tokens = [[each.encode(text) for text in self._request.texts] for each in tokenisers]
        places = shared_tokens(tokens, self._section.max_tokens)
        count = _count(places[0])
        if count < FEWEST_SHARED_TOKENS:
            detail = (
                f"The models share {count} tokens, those that end at the same character of a text; "
                f"their neurons are compared over at least {FEWEST_SHARED_TOKENS}: give more or "
                "longer texts."
            )
            raise ProblemError.of_field(FieldError(pointer="/texts", detail=detail))
        return places


def _count(places: Sequence[Sequence[int]]) -> int:
    return sum(len(of_text) for of_text in places)
