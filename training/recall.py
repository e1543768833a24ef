"""Train `pocket/recall-*`: a two-layer model that answers `apple 3 river 7 river` with 7.

`python -m training.recall --architecture mamba|mamba2|gpt2 --output DIR --seed 0` writes a Hugging
Face directory and its model card. The number of pairs grows from 2 while the model learns: shown 8
pairs from the start, a Mamba stalls at guessing.
"""

import argparse
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from training.recall_card import Measured, Run, model_card
from training.recall_check import accuracy, answer_probability, contribution_peaks
from training.recall_data import (
    DIGITS,
    HELD_OUT_SEED,
    NOUNS,
    PADDING,
    UNKNOWN,
    VOCABULARY,
    recall_prompts,
    recall_tokenizer,
)
from training.recall_models import ARCHITECTURES, new_model
from training.recall_recipe import Recipe
from workers.kernels import mamba

_FIRST_DIGIT = VOCABULARY.index(DIGITS[0])
_FIRST_NOUN = VOCABULARY.index(NOUNS[0])


def training_batch(generator: torch.Generator, count: int, pairs: int, queries: int) -> Tensor:
    """`count` rows of 2 (pairs + queries) tokens: the pairs, then nouns with answers again."""
    nouns = torch.rand(count, len(NOUNS), generator=generator).argsort(1)[:, :pairs]
    digits = torch.randint(len(DIGITS), (count, pairs), generator=generator)
    asked = torch.randint(pairs, (count, queries), generator=generator)
    shown = torch.stack([nouns + _FIRST_NOUN, digits + _FIRST_DIGIT], dim=2)
    again = shown.gather(1, asked[:, :, None].expand(-1, -1, 2))
    return torch.cat([shown, again], dim=1).flatten(1)


def training_step(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, ids: Tensor, pairs: int
) -> tuple[float, float]:
    """One AdamW step on the answers' cross entropy; (loss, share of answers right)."""
    logits = model(ids, use_cache=False).logits[:, 2 * pairs :: 2]
    answers = ids[:, 2 * pairs + 1 :: 2]
    loss = functional.cross_entropy(logits.flatten(0, 1), answers.flatten())
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach()), float((logits.argmax(-1) == answers).float().mean())


def train(model: PreTrainedModel, recipe: Recipe, seed: int) -> int:
    """Curriculum, then all lengths with a falling learning rate; returns the number of steps."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)
    model.train()
    steps = 0
    with mamba.installed():
        for longest in range(recipe.first_pairs, recipe.last_pairs + 1):
            steps += _stage(model, optimizer, generator, recipe, longest)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.final_steps)
        for step in range(recipe.final_steps):
            pairs = _draw_pairs(generator, recipe, recipe.last_pairs)
            ids = training_batch(generator, recipe.batch, pairs, recipe.queries)
            loss, right = training_step(model, optimizer, ids, pairs)
            schedule.step()
            if step % 250 == 0:
                print(f"final step {step}: loss {loss:.4f}, right {right:.3f}", flush=True)
    model.eval()
    return steps + recipe.final_steps


def _stage(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    recipe: Recipe,
    longest: int,
) -> int:
    average, step = 0.0, 0
    while average <= recipe.stage_accuracy and step < recipe.stage_steps:
        step += 1
        pairs = _draw_pairs(generator, recipe, longest)
        ids = training_batch(generator, recipe.batch, pairs, recipe.queries)
        loss, right = training_step(model, optimizer, ids, pairs)
        average += 0.05 * (right - average)
    print(f"{longest} pairs: {step} steps, loss {loss:.4f}, right {average:.3f}", flush=True)
    return step


def _draw_pairs(generator: torch.Generator, recipe: Recipe, longest: int) -> int:
    """Half the batches have the longest prompts so far, the others any length."""
    if torch.rand((), generator=generator) < 0.5:
        return longest
    return int(torch.randint(1, longest + 1, (), generator=generator))


def measure(model: PreTrainedModel, tokenizer: Tokenizer) -> Measured:
    """Accuracy by number of pairs and contribution peaks, all on held-out prompts."""
    with mamba.installed():
        mixed = recall_prompts(HELD_OUT_SEED, 2000, range(2, 9))
        return Measured(
            accuracy=accuracy(model, tokenizer, mixed),
            accuracy_by_pairs={
                pairs: accuracy(model, tokenizer, recall_prompts(HELD_OUT_SEED, 1000, pairs))
                for pairs in range(1, 13)
            },
            contribution_peaks=contribution_peaks(model, tokenizer, mixed[:200]),
            example=answer_probability(model, tokenizer, "apple 3 river 7 stone 1 river")["7"],
            held_out_seed=HELD_OUT_SEED,
        )


def save(model: PreTrainedModel, tokenizer: Tokenizer, output: Path) -> None:
    """Weights, configuration and tokenizer as a Hugging Face directory."""
    output.mkdir(parents=True, exist_ok=True)
    model.generation_config.pad_token_id = model.config.pad_token_id
    model.save_pretrained(output)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, pad_token=PADDING
    ).save_pretrained(output)
    (output / "model.safetensors").chmod(0o644)


def main() -> None:
    """Train, measure, write the directory and its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), default="mamba")
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # The tensors are too small for more: on a busy machine two threads mostly wait for each other.
    torch.set_num_threads(1)
    architecture, tokenizer = ARCHITECTURES[arguments.architecture], recall_tokenizer()
    started = time.process_time()
    model = new_model(arguments.architecture, arguments.seed)
    steps = train(model, architecture.recipe, arguments.seed)
    seconds = time.process_time() - started
    measured = measure(model, tokenizer)
    save(model, tokenizer, arguments.output)
    run = Run(arguments.architecture, architecture, arguments.seed, steps, seconds)
    card = model_card(run, measured, NOUNS, len(VOCABULARY))
    (arguments.output / "README.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()
