"""From what was read of the neurons to the document's part about them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from catalogue.tokeniser import Tokeniser
from schemas.catalogue import LayerDescription
from schemas.names import Block, Ranking
from schemas.neurons import (
    ActivationStatistics,
    BlockNeurons,
    DeltaStatistics,
    NeuronAnalysis,
    NeuronProfile,
    RankedValue,
    Sparsity,
    TopToken,
    Trigger,
)
from schemas.problem import ProblemError, ProblemType
from schemas.result import Token
from schemas.sections import NeuronSection
from workers.analyses.neuron_statistics import ranked, sparseness
from workers.analyses.ngrams import Ngrams, SharedNgram
from workers.kernels.activation_moments import ActivationMoments, StepMoments
from workers.mixers.sites import Place, Site, in_words
from workers.neuron_reading import NeuronReading
from workers.numbers import Floats, listed, number, rounded

# Texts whose tokens are kept, of those that context was shown from.
_KEPT_TEXTS = 256


class Texts:
    """The texts of a job under one model, from which context is shown; `ngrams` are theirs."""

    def __init__(self, texts: Sequence[str], tokeniser: Tokeniser, longest: int) -> None:
        self._texts, self._tokeniser = texts, tokeniser
        self._read: dict[int, list[Token]] = {}
        self.ngrams = Ngrams([tokeniser.ids(text) for text in texts], longest)

    def tokens(self, text: int) -> list[Token]:
        """The tokens of one text; those of the texts read last are kept."""
        if text not in self._read:
            if len(self._read) >= _KEPT_TEXTS:
                self._read.pop(next(iter(self._read)))
            self._read[text] = self._tokeniser.encode(self._texts[text])
        return self._read[text]

    def shown(self, text: int, position: int, activation: float, context: int) -> TopToken:
        """A token with as many tokens before and after it."""
        tokens, whole = self.tokens(text), self._texts[text]
        start = tokens[max(0, position - context)].start
        end = tokens[min(len(tokens) - 1, position + context)].end
        at = tokens[position]
        return TopToken(
            activation=number(activation),
            text_index=text,
            position=position,
            token=at.text,
            before=whole[min(start, at.start) : at.start],
            after=whole[at.end : max(end, at.end)],
        )


def neuron_analysis(
    model: str,
    reading: NeuronReading,
    attributions: Mapping[Place, Floats],
    section: NeuronSection,
    texts: Texts,
    layers: Sequence[LayerDescription],
    asked: Sequence[int],
) -> NeuronAnalysis:
    """One model's neurons; `attributions` (d,) of the layers and blocks that have one.

    `layers` are all of the model's, `asked` those whose neurons were asked for.

    Raises ProblemError (not-finite): the statistics of a block are no numbers.
    """
    positions, tokens = reading.positions, sum(reading.lengths)
    bins = len(positions.borders)
    return NeuronAnalysis(
        model=model,
        texts=len(reading.lengths),
        tokens=tokens,
        position_bins=bins,
        chance_information=number((bins - 1) / (2 * tokens)),
        blocks=[
            _block(site, reading, attributions.get(site.place), section, texts, layers)
            for site in reading.measured
        ],
        unavailable_reason=_missing(model, asked, reading.measured, section, layers),
    )


def _block(
    site: Site,
    reading: NeuronReading,
    attribution: Floats | None,
    section: NeuronSection,
    texts: Texts,
    layers: Sequence[LayerDescription],
) -> BlockNeurons:
    found, steps = reading.moments[site], reading.steps.get(site)
    _require_finite(site, [found.mean, found.variance])
    values = ranked_values(found, steps, attribution)
    rankings = {
        by: [RankedValue(neuron=i, value=number(of[i])) for i in ranked(of, section.top_k)]
        for by, of in values.items()
    }
    profiled = dict.fromkeys(
        entry.neuron
        for by, ranking in rankings.items()
        if by is not Ranking.DELTA_VARIANCE
        for entry in ranking
    )
    active = found.fraction_active
    return BlockNeurons(
        layer=site.layer,
        block=site.block,
        mixer=layers[site.layer].mixer if site.block is Block.MIXER else None,
        num_neurons=site.neurons,
        statistics=_statistics(found),
        sparsity=Sparsity(
            **{name: number(v) for name, v in asdict(sparseness(found.mean_magnitude)).items()},
            hoyer_per_token=number(found.hoyer_per_token),
        ),
        dead=np.flatnonzero(active == 0).tolist(),
        rare=np.flatnonzero((active > 0) & (active < section.rare_below)).tolist(),
        delta=None
        if steps is None
        else DeltaStatistics(mean=listed(steps.mean), variance=listed(steps.variance)),
        attribution=None if attribution is None else listed(attribution),
        rankings=rankings,
        profiles=[_profile(neuron, found, section, texts) for neuron in profiled],
    )


def ranked_values(
    found: ActivationMoments, steps: StepMoments | None, attribution: Floats | None
) -> dict[Ranking, Floats]:
    """What each ranking ranks by: (d,), or of Delta (c,); without those that there are not."""
    values = {Ranking.VARIANCE: found.variance}
    if found.texts > 1:
        values[Ranking.TEXT_VARIANCE] = found.text_variance
    if steps is not None:
        values[Ranking.DELTA_VARIANCE] = steps.variance
    values[Ranking.POSITION_CORRELATION] = found.position_correlation
    values[Ranking.POSITION_INFORMATION] = found.position_information
    if attribution is not None:
        values[Ranking.ATTRIBUTION] = attribution
    return values


def _statistics(found: ActivationMoments) -> ActivationStatistics:
    return ActivationStatistics(
        mean=listed(found.mean),
        std=listed(np.sqrt(found.variance)),
        skewness=_or_none(found.skewness),
        kurtosis=_or_none(found.kurtosis),
        minimum=listed(found.minimum),
        maximum=listed(found.maximum),
        mean_magnitude=listed(found.mean_magnitude),
        fraction_active=listed(found.fraction_active),
        fraction_positive=listed(found.fraction_positive),
    )


def _profile(
    neuron: int, found: ActivationMoments, section: NeuronSection, texts: Texts
) -> NeuronProfile:
    strongest = found.strongest(neuron)
    return NeuronProfile(
        neuron=neuron,
        top_tokens=[
            texts.shown(text, position, value, section.context)
            for value, text, position in strongest
        ],
        triggers=[_trigger(shared, texts) for shared in texts.ngrams.triggers(strongest)],
    )


def _trigger(shared: SharedNgram, texts: Texts) -> Trigger:
    n, (text, at) = len(shared.ids), shared.place
    return Trigger(
        n=n,
        ids=list(shared.ids),
        tokens=[token.text for token in texts.tokens(text)[at - n + 1 : at + 1]],
        share=number(shared.share),
        lift=number(shared.lift),
    )


def _missing(
    model: str,
    asked: Sequence[int],
    sites: Sequence[Site],
    section: NeuronSection,
    layers: Sequence[LayerDescription],
) -> str | None:
    """Which blocks of the asked layers cannot be read, in words."""
    found = {site.place for site in sites}
    blocks = section.blocks or list(Block)
    if not found:
        which = in_words(blocks)
        return f"None of the layers of `{model}` that were asked for has {which} to be read."
    hidden = [
        layer
        for layer in asked
        if Block.MLP in blocks
        and layers[layer].mlp_neurons is None
        and (layer, Block.MLP) not in found
    ]
    if not hidden:
        return None
    which = ", ".join(map(str, hidden))
    return (
        f"The MLP of {'layers' if len(hidden) > 1 else 'layer'} {which} of `{model}` is made of "
        "experts, of which each token passes others, or shared by several layers: not read."
    )


def _require_finite(site: Site, found: Sequence[Floats]) -> None:
    if not all(np.isfinite(values).all() for values in found):
        raise ProblemError(
            ProblemType.NOT_FINITE,
            f"Layer {site.layer}: the neurons of its {site.block} hold infinities or NaN. Check "
            "the model's weights, or leave this layer out.",
        )


def _or_none(values: Floats) -> list[float | None]:
    known = np.isfinite(values)
    numbers = rounded(np.where(known, values, 0.0)).tolist()
    return [value if there else None for value, there in zip(numbers, known, strict=True)]
