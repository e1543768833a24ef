"""What next tokens are said: a target's logit and probability, a divergence, the loss of a text.

Logits over the vocabulary are made of some tokens at a time, never of all of a pass.

Axes: b rows, n texts, l tokens, p tokens of a piece, m hidden size, k tokens judged at once,
v vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from schemas import pieces
from workers.kernels import pulse
from workers.models.readout import Readout
from workers.traces import TraceRequest


class LossMeter:
    """Mean cross-entropy of each row's next tokens, from hidden states that come in pieces.

    ids (b, l), right-padded; lengths (b,) in tokens.
    """

    def __init__(self, readout: Readout, ids: Tensor, lengths: Tensor) -> None:
        self._readout, self._ids, self._lengths = readout, ids, lengths
        self._sum = torch.zeros(len(ids), dtype=torch.float64, device=ids.device)

    def hear(self, tokens: slice, states: Tensor) -> None:
        """Go on through the states (b, p, m) of these tokens."""
        following = torch.arange(tokens.start + 1, tokens.stop + 1, device=states.device)
        rows, places = (following < self._lengths[:, None]).nonzero(as_tuple=True)
        answers = self._ids[rows, following[places]]
        lost = torch.zeros(states.shape[:2], dtype=torch.float64, device=states.device)
        for start, stop in pieces.borders(len(rows), judged_at_once(self._readout)):
            pulse.beat()
            row, place = rows[start:stop], places[start:stop]
            logits = self._readout(states[row, place])
            found = functional.cross_entropy(logits, answers[start:stop], reduction="none")
            lost[row, place] = found.double()
        self._sum += lost.sum(1)

    def mean(self) -> Tensor:
        """(b,) float64, nats; NaN for a row of a single token."""
        return torch.where(self._lengths > 1, self._sum / (self._lengths - 1), torch.nan)


@dataclass(frozen=True)
class Targets:
    """The targets of n texts, and what is said there before any change.

    tokens (n,); contrasts (n,), the token itself where there is none; log_probability (n, v)
    float64.
    """

    tokens: Tensor
    contrasts: Tensor
    has_contrast: Tensor
    log_probability: Tensor

    @classmethod
    def of(cls, requests: Sequence[TraceRequest], logits: Tensor) -> "Targets":
        """Those of the texts' requests: the top token of logits (n, v) where none is named."""
        top = logits.argmax(1).tolist()
        tokens = [r.token if r.token is not None else t for r, t in zip(requests, top, strict=True)]
        contrasts = [r.contrast if r.contrast is not None else 0 for r in requests]
        return cls(
            torch.tensor(tokens, device=logits.device),
            torch.tensor(contrasts, device=logits.device),
            torch.tensor([r.contrast is not None for r in requests], device=logits.device),
            torch.log_softmax(logits.double(), 1),
        )

    def judge(self, logits: Tensor, first: int = 0) -> Tensor:
        """(3, k) float64: logit, probability and divergence of rows `first` on, logits (k, v).

        Row r is of text r modulo n.
        """
        text = torch.arange(first, first + len(logits), device=logits.device) % len(self.tokens)
        token, wide = self.tokens[text][:, None], logits.double()
        contrast = wide.gather(1, self.contrasts[text][:, None]) * self.has_contrast[text][:, None]
        after, before = torch.log_softmax(wide, 1), self.log_probability[text]
        return torch.stack(
            [
                (wide.gather(1, token) - contrast)[:, 0],
                after.gather(1, token)[:, 0].exp(),
                (before.exp() * (before - after)).sum(1).clamp_min(0.0),
            ]
        )


def logits_of(readout: Readout, states: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(first row, logits (k, v)) of states (b, m), some rows at a time."""
    for start, stop in pieces.borders(len(states), judged_at_once(readout)):
        pulse.beat()
        yield start, readout(states[start:stop])


def judged_at_once(readout: Readout) -> int:
    """k, at most."""
    head: Any = readout.head
    return max(1, pieces.LOGITS // int(head.weight.shape[0]))
