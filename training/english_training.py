"""Next-token training of a Mamba on one long text, resumable from a checkpoint."""

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import MambaConfig, MambaForCausalLM

from training.english_recipe import Recipe
from workers.kernels import mamba

_REPORT_STEPS = 50


@dataclass(frozen=True)
class Trained:
    """What training took."""

    seconds: float
    """Of processor time, those of a resumed run together."""
    last_loss: float
    """Nats a token, mean over the last `_REPORT_STEPS` steps."""


def new_model(recipe: Recipe, vocabulary: int, seed: int) -> MambaForCausalLM:
    """A random Mamba of the recipe's sizes, the same for the same seed."""
    torch.manual_seed(seed)
    config = MambaConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        state_size=recipe.state_size,
        # The embedding is the head too: at the default of 0.1 its first logits are far from even.
        initializer_range=0.05,
        rescale_prenorm_residual=True,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = MambaForCausalLM(config)
    # transformers initialises what it loads too, and would divide the trained weights again.
    model.config.rescale_prenorm_residual = False
    return model


def windows(tokens: Tensor, recipe: Recipe, seed: int, step: int) -> Tensor:
    """The windows (batch, length + 1) of one step, from random places of `tokens` (l,)."""
    # A generator of each step's own, so that a resumed run draws what an unbroken one draws.
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    last = len(tokens) - recipe.length
    starts = torch.randint(last, (recipe.batch, 1), generator=generator)
    return tokens[starts + torch.arange(recipe.length + 1)]


def learning_rate_share(recipe: Recipe, step: int) -> float:
    """Share of the highest learning rate at a step, counted from 0."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    cooled = max(0, step - recipe.constant_until) / max(1, recipe.cooldown_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, cooled)))


def new_optimizer(model: MambaForCausalLM, recipe: Recipe) -> tuple[AdamW, LambdaLR]:
    """AdamW that decays only matrices that multiply, and its schedule."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    decays = {name for name, weight in named if weight.ndim == 2 and not name.endswith("A_log")}
    groups = [
        {"params": [w for n, w in named if n in decays], "weight_decay": recipe.weight_decay},
        {"params": [w for n, w in named if n not in decays], "weight_decay": 0.0},
    ]
    optimizer = AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)
    return optimizer, LambdaLR(optimizer, lambda step: learning_rate_share(recipe, step))


def train(
    model: MambaForCausalLM,
    tokens: Tensor,
    recipe: Recipe,
    seed: int,
    checkpoint: Path | None = None,
) -> Trained:
    """Train `model` in place on `tokens` (l,); goes on from `checkpoint` where that file exists.

    The file is rewritten with every report and at the end. One of a longer or shorter run serves
    up to where both start to cool down. Raises ValueError: it is of another recipe or seed.
    """
    optimizer, schedule = new_optimizer(model, recipe)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    step, done = 0, Trained(0.0, float("nan"))
    if checkpoint is not None and checkpoint.exists():
        step, done = _resume(checkpoint, parts, recipe, seed)
    started = time.process_time() - done.seconds
    losses: list[float] = []
    model.train()
    with mamba.installed():
        while step < recipe.steps:
            losses.append(_step(model, optimizer, windows(tokens, recipe, seed, step), recipe))
            schedule.step()
            step += 1
            if step % _REPORT_STEPS == 0 or step == recipe.steps:
                done = Trained(time.process_time() - started, sum(losses) / len(losses))
                losses.clear()
                print(f"step {step}: loss {done.last_loss:.4f}, {done.seconds:.0f} s", flush=True)
                if checkpoint is not None:
                    _keep(checkpoint, parts, recipe, seed, step, done)
    model.eval()
    return done


def _step(model: MambaForCausalLM, optimizer: AdamW, ids: Tensor, recipe: Recipe) -> float:
    logits = model(ids[:, :-1], use_cache=False).logits
    loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    return float(loss.detach())


def _keep(
    checkpoint: Path, parts: dict[str, Any], recipe: Recipe, seed: int, step: int, done: Trained
) -> None:
    """Write the file whole or not at all: a run stopped while it writes keeps the one before."""
    state = {name: part.state_dict() for name, part in parts.items()}
    made = {"recipe": asdict(recipe), "seed": seed, "step": step, "done": asdict(done)}
    partial = checkpoint.with_suffix(".partial")
    torch.save(state | made, partial)
    partial.replace(checkpoint)


def _resume(
    checkpoint: Path, parts: dict[str, Any], recipe: Recipe, seed: int
) -> tuple[int, Trained]:
    """Give the parts their saved states, if an unbroken run would have come through them."""
    saved = torch.load(checkpoint)
    before = Recipe(**saved["recipe"])
    alike = replace(before, steps=recipe.steps, cooldown_steps=recipe.cooldown_steps) == recipe
    constant = saved["step"] <= min(before.constant_until, recipe.constant_until)
    if saved["seed"] != seed or not (before == recipe or (alike and constant)):
        raise ValueError(f"{checkpoint} is of seed {saved['seed']} and {before}: remove it")
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return saved["step"], Trained(**saved["done"])
