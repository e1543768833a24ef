"""Facts as tokens: what passes through a model, where its answer is read, and how probable it is.

Axes: b rows of a batch, l tokens (right-padded: a causal model never sees padding), m hidden size,
r tokens of all the rows' answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from catalogue.tokeniser import Tokeniser
from schemas.sections import Fact
from workers.models.readout import Readout


@dataclass(frozen=True)
class Question:
    """One prompt of a fact, followed by its answer but for the answer's last token.

    ids: what passes; targets: the answer's tokens, read at the last len(targets) positions.
    """

    fact: int
    prompt: str
    ids: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def first(self) -> int:
        """The position that the answer's first token is read from: the prompt's last."""
        return len(self.ids) - len(self.targets)


def questions_of(tokeniser: Tokeniser, fact: Fact, index: int) -> list[Question]:
    """The questions of fact `index` of a request: its prompt's, then its paraphrases'.

    Raises ValueError: a prompt without tokens, or that its answer does not continue; admission
    (`catalogue.facts`) refuses both, with their place in the request.
    """
    return [
        _question(tokeniser, index, prompt, fact.answer)
        for prompt in (fact.prompt, *fact.paraphrases)
    ]


def _question(tokeniser: Tokeniser, fact: int, prompt: str, answer: str) -> Question:
    before, ids = tokeniser.ids(prompt), tokeniser.ids(prompt + answer)
    if not before or len(ids) <= len(before) or ids[: len(before)] != before:
        raise ValueError(f"{answer!r} does not continue {prompt!r}")
    return Question(fact, prompt, tuple(ids[:-1]), tuple(ids[len(before) :]))


def log_probabilities(readout: Readout, states: Tensor, rows: Sequence[Question]) -> Tensor:
    """(b,) float64: log P(answer) of each row, of the last hidden states (b, l, m).

    Sum over the answer's tokens of log softmax(logits)[token], teacher-forced; logits are made at
    the positions that are read and nowhere else.
    """
    length, device = states.shape[1], states.device
    at = [row * length + t for row, q in enumerate(rows) for t in range(q.first, len(q.ids))]
    targets = [token for row in rows for token in row.targets]
    # No position is read twice, so the backward pass adds nothing in an order of its own.
    read = states.flatten(0, 1).index_select(0, torch.tensor(at, device=device))
    logs = readout(read).double().log_softmax(-1)
    found = logs.gather(1, torch.tensor(targets, device=device)[:, None])[:, 0]
    return torch.stack([part.sum() for part in torch.split(found, [len(q.targets) for q in rows])])
