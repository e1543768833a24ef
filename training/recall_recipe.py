"""The recipe that the recall model is trained by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome besides the seed."""

    learning_rate: float = 2e-3
    batch: int = 64
    first_pairs: int = 2
    last_pairs: int = 8
    queries: int = 4
    """Nouns asked for one after another in a training sequence; the loss is on every answer."""
    stage_accuracy: float = 0.95
    """Moving average over answers at which one more pair is added."""
    stage_steps: int = 1500
    """Steps after which a stage ends in any case."""
    final_steps: int = 2500
    """Steps on all lengths, with the learning rate falling to zero."""
