"""One job's neurons under one model, read as its texts pass, in memory that stays flat.

Axes: b texts of a batch, p tokens of a piece, d neuron, n tokens of a sample.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from schemas.names import Block
from workers.kernels.activation_moments import ActivationMoments, Positions, StepMoments
from workers.kernels.steps import Step
from workers.mixers.sites import Site

# Bins of positions at most: enough for a profile, few enough that chance tells little.
POSITION_BINS = 32


@dataclass
class Sample:
    """Activations at chosen tokens: `places`, by text, says which; n in all, in the order of texts.

    What several models of a job read at tokens that correspond, to be compared, at `sites`.
    """

    sites: Sequence[Site]
    places: Sequence[Sequence[int]]
    _taken: dict[Site, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        *self._first, self.tokens = accumulate(map(len, self.places), initial=0)

    def take(self, site: Site, x: Tensor, text: int, start: int) -> None:
        """Keep what is chosen of one text's activations x (p, d), the tokens from `start` on."""
        chosen = self.places[text]
        here = [(i, at - start) for i, at in enumerate(chosen) if 0 <= at - start < len(x)]
        if not here:
            return
        if site not in self._taken:
            self._taken[site] = torch.zeros(self.tokens, x.shape[1])
        rows, tokens = zip(*here, strict=True)
        to = torch.tensor(rows) + self._first[text]
        self._taken[site][to] = x[torch.tensor(tokens, device=x.device)].float().cpu()

    def hand_over(self) -> Iterator[tuple[int, Block, Tensor]]:
        """(layer, block, activations (n, d)) of every site, which is let go of as it is taken."""
        for site in self.sites:
            yield site.layer, site.block, self._taken.pop(site)


@dataclass
class NeuronReading:
    """Reads the neurons of one job's texts; `lengths` are the texts' tokens.

    `moments` are those of the neurons at the `measured` sites, `steps` those of the Delta of the
    mixers among them that have one; the sample has sites of its own.
    """

    measured: Sequence[Site]
    lengths: Sequence[int]
    active_above: float = 0.0
    top_tokens: int = 0
    sample: Sample | None = None
    moments: dict[Site, ActivationMoments] = field(default_factory=dict)
    steps: dict[Site, StepMoments] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._positions = Positions.of(self.lengths, POSITION_BINS)
        for site in self.measured:
            self.moments[site] = ActivationMoments(
                site.neurons, self._positions, self.active_above, self.top_tokens
            )

    def read(
        self,
        site: Site,
        x: Tensor,
        steps: Sequence[Step],
        rows: Sequence[int],
        texts: Sequence[int],
        start: int,
    ) -> None:
        """Go on through a batch's neurons x (b, p, d), the tokens from `start` on.

        Of each of `rows` the text of that index; `steps` are what the mixer's scan computed with.
        """
        lengths = [self.lengths[text] for text in texts]
        if site in self.moments:
            self.moments[site].read(x, rows, texts, lengths, start)
            self._read_steps(site, steps, rows, [length - start for length in lengths])
        if self.sample is not None and site in self.sample.sites:
            for row, text, length in zip(rows, texts, lengths, strict=True):
                self.sample.take(site, x[row, : max(0, length - start)], text, start)

    def _read_steps(
        self, site: Site, steps: Sequence[Step], rows: Sequence[int], left: Sequence[int]
    ) -> None:
        """Every head's step in turn; `left` are the texts' tokens from here on."""
        channels = [step.before.shape[1] for step in steps]
        if steps and site not in self.steps:
            self.steps[site] = StepMoments(sum(channels))
        first = 0
        for step, width in zip(steps, channels, strict=True):
            here = [min(tokens, step.before.shape[2]) for tokens in left]
            self.steps[site].read(step, first, rows, here)
            first += width

    @property
    def sites(self) -> list[Site]:
        """Wherever it reads."""
        sampled = () if self.sample is None else self.sample.sites
        return list(dict.fromkeys([*self.measured, *sampled]))

    @property
    def positions(self) -> Positions:
        """How the positions of the texts' tokens are binned."""
        return self._positions
