"""What a model says of texts while its neurons are changed, many conditions in one pass.

A row of a pass is one text under one condition. Texts of about one length pass together; their
rows are right-padded, which a causal model never sees.

Axes: c conditions, n texts, b rows (text by text in each condition), l tokens, m hidden size.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from catalogue.passing import pass_bytes
from schemas import pieces
from schemas.problem import FieldError, ProblemError, ProblemType
from schemas.sections import Intervention
from workers.analyses.perturbation import Said
from workers.experiments.changes import Change, Condition, Moments
from workers.experiments.judging import LossMeter, Targets, judged_at_once, logits_of
from workers.experiments.streams import beginning, begins_at, keeping, layers_by_stream
from workers.mixers.sites import Place, Site, changing
from workers.models import rotary
from workers.models.loading import LoadedModel
from workers.numbers import Floats
from workers.padding import padded, pads_little
from workers.passes import in_pieces, states_over
from workers.traces import TraceRequest

# What the rows of one pass take at most: more are not faster.
_PASS_BYTES = 1 << 30
# What the streams take that passes of a group of texts begin with.
_STREAM_BYTES = 1 << 28
_FLOAT = 4
# Floats that a change adds for each neuron of a block and token: the block changed, and of noise
# the neurons' own, the noise and their sum.
_CHANGED = 4


@dataclass(frozen=True)
class Texts:
    """Texts to be read; `what` is what messages call them, `which` sets their noise apart."""

    requests: Sequence[TraceRequest]
    what: str = "text"
    which: int = 0


@dataclass(frozen=True)
class Listener:
    """Runs a model on texts under interventions, and keeps what it says.

    sites: where neurons may be changed; a pass takes at most `room` bytes, unless a single text
    does not fit; `passing` is called before every pass with how many tokens it has.
    """

    loaded: LoadedModel
    sites: Mapping[Place, Site]
    moments: Mapping[Place, Moments]
    room: int
    passing: Callable[[int], None]

    def listen(
        self, texts: Texts, interventions: Sequence[Intervention], conditions: Sequence[Condition]
    ) -> tuple[Said, list[Said]]:
        """What is said before any change (1, n), and under each intervention (c, n).

        Raises ProblemError: not-finite, naming what was changed.
        """
        count = len(texts.requests)
        before = np.full((4, 1, count), np.nan)
        after = [np.full((4, len(conditions), count), np.nan) for _ in interventions]
        for group in self._groups(texts):
            starts = self._starts(group, conditions)
            targets, before[:, :, group.indices] = self._unchanged(group, starts)
            together = max(1, self._rows(group.length) // len(group.indices))
            begins = [begins_at(group.streams, each.lowest) for each in conditions]
            for index, intervention in enumerate(interventions):
                for start, stop in _runs(begins, together):
                    change = Change(
                        intervention,
                        conditions[start:stop],
                        self.moments,
                        texts=[(texts.which, at) for at in group.indices],
                        lengths=group.lengths,
                    )
                    said = self._changed(group, targets, change, index)
                    after[index][:, start:stop, group.indices] = said
        return Said(*before), [Said(*found) for found in after]

    def _groups(self, texts: Texts) -> Iterator["_Group"]:
        """The texts, by length, so that padding stays below half and their logits fit."""
        lengths = [len(request.ids) for request in texts.requests]
        stretching = bool(rotary.stretching(self.loaded.model))
        most = 1 if stretching else judged_at_once(self.loaded.readout)
        indices: list[int] = []
        for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            length = lengths[index]
            fits = len(indices) < min(self._rows(length), most)
            if indices and not (fits and pads_little(lengths[indices[0]], length)):
                yield _Group.of(texts, indices, self.loaded.device)
                indices = []
            indices = [*indices, index]
        if indices:
            yield _Group.of(texts, indices, self.loaded.device)

    def _rows(self, length: int) -> int:
        """Rows of so many tokens that pass together; at least one."""
        loaded, on_gpu = self.loaded, self.loaded.device.type == "cuda"
        taken = pass_bytes(loaded.description, 0, (), length, on_gpu)
        widest = max(site.neurons for site in self.sites.values())
        taken = replace(taken, passing=taken.passing + _FLOAT * _CHANGED * widest)
        fitting = taken.tokens_in(min(self.room, _PASS_BYTES)) // length
        if not on_gpu:
            # Of texts that pass in pieces, the shortest piece of each passes at once.
            at_once = min(length, pieces.SHORTEST) if in_pieces(loaded.model) else length
            fitting = min(fitting, pieces.PASS // at_once)
        return max(1, fitting)

    def _starts(self, group: "_Group", conditions: Sequence[Condition]) -> list[int]:
        """The layers at which passes of the group begin, as far as their streams fit."""
        if not layers_by_stream(self.loaded.model):
            return []
        lowest = {each.lowest for each in conditions}
        description = self.loaded.description
        each = group.ids.numel() * description.hidden_size * description.dtype.size
        fitting = min(self.room, _STREAM_BYTES) // each
        return sorted(lowest - {0}, reverse=True)[:fitting]

    def _unchanged(self, group: "_Group", starts: Collection[int]) -> tuple[Targets, Floats]:
        """The group's targets, and what is said there (4, 1, n); its streams are kept."""

        def around(tokens: slice) -> AbstractContextManager[None]:
            layers = layers_by_stream(self.loaded.model)
            return keeping(layers, starts, group.streams, tokens, group.length)

        read, losses = self._pass(group, 1, around)
        logits = self.loaded.readout(read)
        for row in group.broken(logits, losses):
            raise _not_finite(f"for {group.names[row]}, before any neuron is changed")
        targets = Targets.of(group.requests, logits)
        return targets, torch.cat([targets.judge(logits), losses[None]])[:, None].cpu().numpy()

    def _changed(
        self, group: "_Group", targets: Targets, change: Change, intervention: int
    ) -> Floats:
        """What is said in one pass (4, c, n)."""
        rows = len(change.conditions) * len(group.indices)

        @contextmanager
        def around(tokens: slice) -> Iterator[None]:
            sites = [self.sites[place] for place in change.places]
            changes = {site: change.at(site, tokens.start) for site in sites}
            start = begins_at(group.streams, min(each.lowest for each in change.conditions))
            with ExitStack() as inside:
                inside.enter_context(changing(changes, (rows, tokens.stop - tokens.start)))
                if start:
                    stream = group.streams[start][:, tokens]
                    layers = layers_by_stream(self.loaded.model)
                    inside.enter_context(beginning(layers, start, stream, len(change.conditions)))
                yield

        read, losses = self._pass(group, len(change.conditions), around)
        texts, found = len(group.indices), []
        for first, logits in logits_of(self.loaded.readout, read):
            for row in group.broken(logits, losses, first):
                condition, text = divmod(row, texts)
                whose, kind = change.conditions[condition].whose, change.intervention.kind
                raise _not_finite(
                    f"for {group.names[text]} once `{kind}` changes {whose}",
                    f"/perturbation/interventions/{intervention}",
                )
            found.append(targets.judge(logits, first))
        said = torch.cat([torch.cat(found, 1), losses[None]])
        return said.reshape(4, -1, texts).cpu().numpy()

    def _pass(
        self,
        group: "_Group",
        conditions: int,
        around: Callable[[slice], AbstractContextManager[object]],
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (b, m) that the targets are read from, and losses (b,) float64."""
        for module in rotary.stretching(self.loaded.model):
            rotary.reset(module)
        ids = group.ids.repeat(conditions, 1)
        self.passing(conditions * sum(group.lengths))
        lengths = torch.tensor(group.lengths * conditions, device=ids.device)
        meter = LossMeter(self.loaded.readout, ids, lengths)
        read: dict[int, Tensor] = {}
        for tokens, states in states_over(self.loaded.model, ids, around):
            meter.hear(tokens, states)
            for row, at in enumerate(group.positions * conditions):
                if tokens.start <= at < tokens.stop:
                    read[row] = states[row, at - tokens.start].clone()
        return torch.stack([read[row] for row in range(len(ids))]), meter.mean()


@dataclass(frozen=True)
class _Group:
    """Texts that pass together: their indices, requests, and ids (n, l).

    streams (n, l, m): what layers were given before any change, by layer, once they have passed.
    """

    indices: list[int]
    requests: list[TraceRequest]
    ids: Tensor
    names: list[str]
    streams: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Texts, indices: list[int], device: torch.device) -> "_Group":
        """Those of the texts."""
        requests = [texts.requests[index] for index in indices]
        ids = padded(request.ids for request in requests)
        names = [f"{texts.what} {request.text}" for request in requests]
        return cls(indices, requests, ids.to(device), names)

    @property
    def length(self) -> int:
        """l."""
        return self.ids.shape[1]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(request.ids) for request in self.requests]

    @property
    def positions(self) -> list[int]:
        """Where each text's target is read, counted from the start."""
        return [request.position % len(request.ids) for request in self.requests]

    def broken(self, logits: Tensor, losses: Tensor, first: int = 0) -> list[int]:
        """The rows, of those from `first` on that have these logits (k, v), that hold no numbers.

        losses (b,): of all rows.
        """
        rows = range(first, first + len(logits))
        single = [self.lengths[row % len(self.indices)] == 1 for row in rows]
        fine = torch.isfinite(losses[first : rows.stop]) | torch.tensor(single).to(losses.device)
        broken = ~(torch.isfinite(logits).all(1) & fine)
        return [first + row for row in broken.nonzero()[:, 0].tolist()]


def _runs(begins: Sequence[int], together: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the conditions that pass together: so many of those that begin alike."""
    first = 0
    for _, alike in groupby(begins):
        count = len(list(alike))
        for start, stop in pieces.borders(count, together):
            yield first + start, first + stop
        first += count


def _not_finite(where: str, pointer: str | None = None) -> ProblemError:
    detail = f"The model computes infinities or NaN {where}. " + (
        "Check its weights, or leave this text out." if pointer is None else "Change it less."
    )
    errors = [] if pointer is None else [FieldError(pointer=pointer, detail=detail)]
    return ProblemError(ProblemType.NOT_FINITE, detail, errors)
