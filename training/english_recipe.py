"""The recipe that the English model is trained by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome besides the text, its tokens and the seed."""

    hidden_size: int = 192
    layers: int = 4
    state_size: int = 16
    batch: int = 8
    """Windows a step, each from a random place of the training text."""
    length: int = 256
    """Tokens a window predicts."""
    steps: int = 3000
    learning_rate: float = 3e-3
    """The highest: it rises in a line, stays, and falls as a cosine."""
    warmup_steps: int = 120
    cooldown_steps: int = 1000
    """The last ones, over which it falls to zero."""
    weight_decay: float = 0.1
    """On the matrices that multiply, not on vectors, convolutions and A."""
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    """Largest norm of a step's gradient."""

    @property
    def constant_until(self) -> int:
        """The step that the cooldown starts at; what comes before is the same for any length."""
        return self.steps - self.cooldown_steps
