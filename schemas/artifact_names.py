"""Names of the files a job leaves, so that the document, the figures and the store agree."""

import re
from dataclasses import dataclass

from schemas.names import Block, Method

# No separator, and a first character that is no dot: none can leave its directory or hide in it.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


def is_artifact_name(name: str) -> bool:
    """Whether a string, from a URL for example, can be an artifact's name."""
    return _NAME.fullmatch(name) is not None


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
        model = _model_prefix(self.model, self.several_models)
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


def block_neurons(model: str, several_models: bool, block: Block, layer: int) -> str:
    """The neurons of one block of one layer."""
    return f"{_model_prefix(model, several_models)}neurons_{block}_layer{layer}.png"


def neurons_overview(model: str, several_models: bool) -> str:
    """Every block's neurons by layer."""
    return f"{_model_prefix(model, several_models)}neurons_overview.png"


def knowledge_neurons(model: str, several_models: bool) -> str:
    """Every fact's neurons by layer, and how many of them facts share."""
    return f"{_model_prefix(model, several_models)}knowledge_neurons.png"


def perturbation(model: str, several_models: bool) -> str:
    """What every intervention changes, beside random neurons."""
    return f"{_model_prefix(model, several_models)}perturbation.png"


def knowledge_averages(model: str, several_models: bool) -> str:
    """`attention_knowledge_averages` by layer."""
    return f"{_model_prefix(model, several_models)}attention_knowledge_averages.png"


def universality() -> str:
    """The neurons of the job's models against each other."""
    return "universality.png"


def _model_prefix(model: str, several_models: bool) -> str:
    return f"{model.replace('/', '_')}--" if several_models else ""


def figure_count(layers: int, methods: int) -> int:
    """Figures of one text: a sheet a layer and method, a strip a layer, an overview a method."""
    return layers * methods + layers + methods if layers else 0


def comparison_figure_count(texts: int, methods: int) -> int:
    """Figures that put models side by side: the tokens a text and method, the depths a method."""
    return texts * methods + methods


def neuron_figure_count(blocks: int) -> int:
    """Figures of the neurons of one model: one a block, and the overview."""
    return blocks + 1 if blocks else 0


def averages_figure_count(layers: int, texts: int) -> int:
    """Figures of one model's averages over its texts: of one text there is none to take."""
    return int(layers > 0 and texts > 1)


def tensor_key(model: int, text: int, layer: int, method: Method, what: str) -> str:
    """Key of one tensor in `tensors.safetensors`; `model` and `text` are indices."""
    return f"m{model}/t{text}/l{layer}/{method}/{what}"
