"""Names of the files a job leaves, so that the document, the figures and the store agree."""

from dataclasses import dataclass

from schemas.names import Method


@dataclass(frozen=True)
class Subject:
    """Which model and text a file shows, and whether its name must say so."""

    model: str
    text: int
    several_models: bool = False
    several_texts: bool = False

    @property
    def prefix(self) -> str:
        """`{model}--text{i}--`, each part only where there are several."""
        model = f"{self.model.replace('/', '_')}--" if self.several_models else ""
        text = f"text{self.text}--" if self.several_texts else ""
        return model + text


def sheet(subject: Subject, method: Method, layer: int) -> str:
    """The 2x2 sheet of one method and layer."""
    return f"{subject.prefix}attention_neurons_{method}_layer{layer}.png"


def token_strip(subject: Subject, layer: int) -> str:
    """The text's tokens coloured by relevance, one row per method, at one layer."""
    return f"{subject.prefix}tokens_layer{layer}.png"


def overview(subject: Subject, method: Method) -> str:
    """Layers x tokens under one method."""
    return f"{subject.prefix}layers_by_tokens_{method}.png"


def compared_tokens(text: int, several_texts: bool, method: Method) -> str:
    """One text under every model, its characters coloured by relevance."""
    prefix = f"text{text}--" if several_texts else ""
    return f"{prefix}comparison_tokens_{method}.png"


def compared_depths(method: Method) -> str:
    """Every model's attention and neurons by relative depth."""
    return f"comparison_depths_{method}.png"


def figure_count(layers: int, methods: int) -> int:
    """Figures of one text: a sheet a layer and method, a strip a layer, an overview a method."""
    return layers * methods + layers + methods if layers else 0


def comparison_figure_count(texts: int, methods: int) -> int:
    """Figures that put models side by side: the tokens a text and method, the depths a method."""
    return texts * methods + methods


def tensor_key(model: int, text: int, layer: int, method: Method, what: str) -> str:
    """Key of one tensor in `tensors.safetensors`; `model` and `text` are indices."""
    return f"m{model}/t{text}/l{layer}/{method}/{what}"
