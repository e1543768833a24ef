"""The mean attention of one GPT-2 layer against transformers' own eager attention."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from transformers import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, eager_attention_forward

from benchmarks.agreement import require_close
from benchmarks.row import Row
from benchmarks.timing import Contest, effort
from workers.kernels.softmax import Heads, attention_matrices

HEADS, WIDTH, LENGTH = 12, 64, 1024


def rows(quick: bool) -> Iterator[Row]:
    length = LENGTH // 4 if quick else LENGTH
    heads = made(length)
    ours, other = (lambda: attention_matrices(heads, [(None, None)])[0]), eager(heads)
    require_close("mean attention of GPT-2", ours(), other())
    yield Contest(
        what=f"softmax matrix, L={length}, mean attention of {HEADS} heads",
        against="transformers' eager attention, averaged",
        note="the other also makes the heads' outputs",
    ).between(ours, other, effort(quick))


def made(length: int) -> Heads:
    """Queries, keys and values of the shape of a layer of GPT-2 small."""
    draw = torch.Generator().manual_seed(0)
    return Heads(*torch.randn(3, HEADS, length, WIDTH, generator=draw), scaling=WIDTH**-0.5)


def eager(heads: Heads) -> Callable[[], Tensor]:
    """The attention that the module hands back, over its mask."""
    module = GPT2Attention(GPT2Config(n_embd=HEADS * WIDTH, n_head=HEADS), layer_idx=0).eval()
    length = heads.length
    mask = torch.full((length, length), -torch.inf).triu(1)[None, None]
    tensors = [v[None] for v in (heads.queries, heads.keys, heads.values)]

    def call() -> Tensor:
        _, alpha = eager_attention_forward(module, *tensors, mask, scaling=heads.scaling)
        return alpha[0].mean(0)

    return call
