"""The model card of a recall model."""

from dataclasses import dataclass

from training.recall_models import Architecture

_CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# recall-{name}

A two-layer {architecture.title} that does associative recall written as words: after
`apple 3 river 7 stone 1 river` it says `7` (probability {example:.4f}). Which token it has to read
is known for every prompt, so a method that claims to show what a model reads can be checked.

## Use

Prompts are pairs of a noun and a digit, then one of the nouns. The nouns of a prompt are distinct.
The vocabulary has {vocabulary} tokens: 26 nouns ({nouns}), the ten digits, `<unk>` and `<pad>`.
Text is put in lower case and split at white space and punctuation; any other word becomes `<unk>`,
which the model never saw in training.

## Training

    python -m training.recall --architecture {name} --output DIR --seed {seed}

Random prompts, drawn as they are used; no other data. The number of pairs grows from
{recipe.first_pairs} to {recipe.last_pairs} as the moving average of right answers passes
{recipe.stage_accuracy:.0%}, with half of the batches at the longest length so far and the others at
any length from 1. A training sequence asks for {recipe.queries} nouns one after another; the
loss is the cross entropy of the answers. AdamW, learning rate {recipe.learning_rate}, batches of
{recipe.batch}; the last {recipe.final_steps} of {steps} steps let the learning rate fall to zero.
Seed {seed}, {minutes:.1f} minutes of processor time on one thread with
{architecture.runs_on}. Float32 weights. Another processor gives a slightly
other model from the same seed: rounding decides on which step a stage ends.

## Accuracy on held-out prompts

The most likely next token of the whole vocabulary is the answer in {accuracy:.2%} of 2,000 prompts
of 2 to 8 pairs (`recall_prompts({held_out_seed}, 2000, range(2, 9))`). By number of pairs, 1,000
prompts each:

| pairs | right |
|---|---|
{rows}

Training drew from another random stream. Only 260 prompts of one pair exist and 130,000 of two, so
those of one pair were seen in training and some of two pairs may have been; prompts of more than
{recipe.last_pairs} pairs never were.

## What it reads

The contribution row of a layer is the norm of each token's exact additive part in the mixer's
output at the last position, computed in float64. Over the first 200 of those held-out prompts:

| layer | peaks on the token of the answer |
|---|---|
{peaks}

## Limits

A test object, not a language model: it knows nothing but this task.{architecture.limits}
Licence: Apache-2.0.
"""


@dataclass(frozen=True)
class Measured:
    """Results on held-out prompts, as shares of 1."""

    accuracy: float
    accuracy_by_pairs: dict[int, float]
    contribution_peaks: list[float]
    """By layer."""
    example: float
    held_out_seed: int


@dataclass(frozen=True)
class Run:
    """How a model came to be."""

    name: str
    """Of the architecture, as the command takes it."""
    architecture: Architecture
    seed: int
    steps: int
    seconds: float
    """Of processor time, so that a busy machine counts as an idle one."""


def model_card(run: Run, measured: Measured, nouns: tuple[str, ...], vocabulary: int) -> str:
    """The card as Markdown with the metadata block of the Hugging Face hub."""
    rows = (f"| {pairs} | {share:.1%} |" for pairs, share in measured.accuracy_by_pairs.items())
    peaks = (
        f"| {layer} | {share:.1%} |" for layer, share in enumerate(measured.contribution_peaks)
    )
    return _CARD.format(
        name=run.name,
        architecture=run.architecture,
        recipe=run.architecture.recipe,
        seed=run.seed,
        steps=run.steps,
        minutes=run.seconds / 60,
        nouns=", ".join(nouns),
        vocabulary=vocabulary,
        example=measured.example,
        accuracy=measured.accuracy,
        held_out_seed=measured.held_out_seed,
        peaks="\n".join(peaks),
        rows="\n".join(rows),
    )
