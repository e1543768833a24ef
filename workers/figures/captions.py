"""What a figure says about itself: the target, the method, the quantities and their units."""

# ruff: noqa: RUF001 (true multiplication and minus signs are typeset on purpose)

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from schemas.names import Method
from schemas.result import MethodAttention, TextResult, Token
from workers.figures import style, words
from workers.figures.parts import TextPart

# Room for each quoted token, tried in turn until the line fits.
QUOTED_TOKEN_INCHES = (1.6, 1.1, 0.8, 0.5)


@dataclass(frozen=True)
class MethodWords:
    """A method's title and what its quantities are. The formulas stand in docs/methods.

    `targeted`: the numbers depend on the target's token, not on its position alone.
    """

    title: str
    targeted: bool
    matrix: str
    relevance: str
    activation: str
    importance: str
    signed: str = ""


METHODS = {
    Method.ATTENTION_WEIGHTED: MethodWords(
        title="Hidden attention",
        targeted=False,
        matrix="attention weight, mean over channels",
        relevance="weight with which the target position reads each token",
        activation="attention × input, mean over reading tokens",
        importance="standard deviation of attention over pairs",
    ),
    Method.GRADIENT_GUIDED: MethodWords(
        title="Gradient-guided attention",
        targeted=True,
        matrix="gradient × attention, mean over channels (logits)",
        relevance="gradient × attention, summed over all reading positions (logits)",
        activation="gradient × mixed value, summed over tokens (logits)",
        importance="standard deviation of gradient × attention (logits)",
    ),
    Method.ROLLOUT: MethodWords(
        title="Attention rollout",
        targeted=False,
        matrix="attention through all layers up to this one",
        relevance="each token's share in the target position, up to this layer",
        activation="rollout × input, mean over reading tokens",
        importance="standard deviation of the same over tokens",
    ),
    Method.CONTRIBUTION: MethodWords(
        title="Contribution",
        targeted=True,
        matrix="norm of the token's share of the mixer's output",
        relevance="norm of each token's share of the mixer's output at the target position",
        activation="effect on the target through the neuron (logits)",
        importance="absolute effect on the target (logits)",
        signed="first-order effect on the target, through this mixer (logits)",
    ),
}


@dataclass(frozen=True)
class Caption:
    """The lines around a figure, and what its file says about itself."""

    title: str
    model: str
    explains: str
    facts: str
    choices: str
    job: str

    @property
    def metadata(self) -> dict[str, str]:
        """PNG text entries."""
        return {
            "Title": f"{self.title} · {self.model}",
            "Description": self.explains,
            "Job": self.job,
        }


def caption(
    part: TextPart, methods: Collection[Method], title: str, facts: Sequence[str], choices: str
) -> Caption:
    """The lines around a figure of some methods; `facts` and `choices` make its footer."""
    result = part.result
    targeted = any(METHODS[method].targeted for method in methods)
    return Caption(
        title=title,
        model=result.model,
        explains=explains(result) if targeted else read_at(result),
        facts="  ·  ".join([f"text {result.text_index}", *facts]),
        choices=choices,
        job=of_job(part.job_id),
    )


def of_job(job_id: str) -> str:
    """Which job a figure is from, for its footer."""
    return f"job {words.readable(job_id, 2.6, style.FOOTER)}"


def read_at(result: TextResult) -> str:
    """One line for methods that depend on the target's position and not on its token."""
    position = result.target.position
    token = words.readable(result.tokens[position].text, QUOTED_TOKEN_INCHES[0], style.SUBTITLE)
    return (
        f"read at position {position}, “{token}”, of {counted(result.tokens)}; "
        "whatever token is predicted there"
    )


def explains(result: TextResult) -> str:
    """One line: which scalar the figure explains. Long tokens are elided until it fits."""
    room = style.WIDTH - 2 * style.MARGIN
    lines = (_explains(result, inches) for inches in QUOTED_TOKEN_INCHES)
    return next(
        (line for line in lines if words.width(line, style.SUBTITLE) <= room),
        _explains(result, QUOTED_TOKEN_INCHES[-1]),
    )


def _explains(result: TextResult, inches: float) -> str:
    target = result.target

    def quoted(token: str) -> str:
        return f"“{words.readable(token, inches, style.SUBTITLE)}”"

    what = f"logit of {quoted(target.token.token)}"
    chance = f"p {words.probability(target.token.probability)}"
    if target.contrast is not None:
        what += f" minus logit of {quoted(target.contrast.token)}"
        chance += f" against p {words.probability(target.contrast.probability)}"
    after = quoted(result.tokens[target.position].text)
    where = f"{counted(result.tokens)}, read at position {target.position}"
    return f"explains: {what} after {after}  ({chance}; {where})"


def counted(tokens: Sequence[Token]) -> str:
    """How many tokens there are, and how many of them the model has no token for."""
    unknown = sum(token.unknown for token in tokens)
    return words.several(len(tokens), "token") + (f", {unknown} unknown" if unknown else "")


def parameters(attention: MethodAttention) -> str:
    """The named choices of a method, for a footer."""
    chosen = attention.parameters
    return (
        f"clamp {chosen.clamp}, rows {chosen.rows}, normalisation {chosen.normalisation}, "
        f"channels by {chosen.channel_reduction}, relevance by {chosen.token_reduction}"
    )


def rebuilt(error: float) -> str:
    """The self-check of a layer, for a footer."""
    return f"reconstruction error {words.number(error)}"
