"""What a recall model is measured by: answers right, and which layer reads them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import GPT2Model, PreTrainedModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from tests.reference import s6_mixer, softmax_mixer, ssd_mixer
from training.recall_data import DIGITS, RecallPrompt

Array = NDArray[np.float64]


def accuracy(
    model: PreTrainedModel, tokenizer: Tokenizer, prompts: Sequence[RecallPrompt]
) -> float:
    """Share of prompts whose most likely next token, out of the whole vocabulary, is the answer."""
    right = 0
    for pairs in sorted({prompt.pairs for prompt in prompts}):
        group = [prompt for prompt in prompts if prompt.pairs == pairs]
        ids = torch.tensor([tokenizer.encode(prompt.text).ids for prompt in group])
        answers = torch.tensor([tokenizer.token_to_id(prompt.answer) for prompt in group])
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits[:, -1]
        right += int((logits.argmax(-1) == answers).sum())
    return right / len(prompts)


def answer_probability(model: PreTrainedModel, tokenizer: Tokenizer, text: str) -> dict[str, float]:
    """Probability of each digit as the next token of one text."""
    ids = torch.tensor([tokenizer.encode(text).ids])
    with torch.no_grad():
        probability = model(ids, use_cache=False).logits[0, -1].softmax(-1)
    return {digit: float(probability[tokenizer.token_to_id(digit)]) for digit in DIGITS}


def contribution_peaks(
    model: PreTrainedModel, tokenizer: Tokenizer, prompts: Sequence[RecallPrompt]
) -> list[float]:
    """By layer, the share of prompts where its contribution row peaks on the answer's token.

    The row is the norm of T_tau(u_s) at the last position, in float64 by the slow twin; the
    mixer's input is the model's own, in float32.
    """
    hits = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer.encode(prompt.text).ids])
        norms = contribution_norms(model, ids)
        hits.append([int(row.argmax()) == prompt.answer_position for row in norms])
    return [float(share) for share in np.mean(hits, axis=0)]


def contribution_norms(model: PreTrainedModel, ids: Tensor) -> list[Array]:
    """By layer, the norm (l,) of T_tau(u_s) for the last position of `ids` (1, l)."""
    decoder = model.base_model
    mixers = (
        [block.attn for block in decoder.h]
        if isinstance(decoder, GPT2Model)
        else [block.mixer for block in decoder.layers]
    )
    seen: list[Tensor] = []
    hooks = [
        mixer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for mixer in mixers
    ]
    try:
        with torch.no_grad():
            model(ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    rows = []
    for mixer, hidden in zip(mixers, seen, strict=True):
        weights = {
            name: value.detach().double().numpy() for name, value in mixer.named_parameters()
        }
        run = _run_twin(mixer, weights, hidden[0].double().numpy())
        rows.append(np.linalg.norm(run.contributions(ids.shape[1] - 1), axis=1))
    return rows


def _run_twin(
    mixer: nn.Module, weights: dict[str, Array], hidden: Array
) -> s6_mixer.MixerRun | ssd_mixer.MixerRun | softmax_mixer.AttentionRun:
    """The mixer's own weights, on its input hidden (l, m), by the slow twin of its kind."""
    if isinstance(mixer, GPT2Attention):
        projected = hidden @ weights["c_attn.weight"] + weights["c_attn.bias"]
        q, k, v = projected.reshape(len(hidden), 3, mixer.num_heads, -1).transpose(1, 2, 0, 3)
        return softmax_mixer.run_attention(
            q,
            k,
            v,
            scaling=mixer.scaling,
            out_weight=weights["c_proj.weight"].T,
            out_bias=weights["c_proj.bias"],
        )
    if isinstance(mixer, Mamba2Mixer):
        return ssd_mixer.run_mixer(
            weights,
            hidden,
            groups=mixer.n_groups,
            epsilon=mixer.layer_norm_epsilon,
            limits=mixer.time_step_limit,
        )
    return s6_mixer.run_mixer(weights, hidden)
