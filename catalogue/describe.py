"""What a model's config.json and its weights' headers say about it; no weights are read."""

from catalogue import shapes
from catalogue.architectures import ARCHITECTURES, LayerMixers, layer_mixers
from catalogue.config import Config
from catalogue.locate import Location
from catalogue.shapes import Shape
from catalogue.weights import WeightsSize, weights_size
from schemas.catalogue import LayerDescription, ModelDescription
from schemas.names import Method, Mixer
from schemas.problem import ProblemError
from schemas.request import select_layers
from schemas.settings import Settings

# What reads a row in linear time, memory included.
_LINEAR = {Mixer.S6, Mixer.SSD}
# Where configs keep the longest text that a model has positions for.
POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")


def describe(location: Location, settings: Settings) -> ModelDescription:
    """The description of a model on disk.

    The settings limit the tokens of a text; the model's own limit, where it has one, can only lower
    that. Only state-space mixers have rows in linear time, so only models of these alone may read
    longer texts by them. Raises what `Config.read` raises, and ProblemError (model-invalid) for
    values that cannot be; weights that are broken leave their size out.
    """
    config = Config.read(location)
    model_type = config.values.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise config.invalid("it has no `model_type`")
    layers = layer_mixers(model_type, config)
    kinds = {mixer for found in layers for mixer in (found.own, found.beside) if mixer}
    hidden = config.positive(*shapes.HIDDEN)
    known = ARCHITECTURES.get(model_type)
    own = Shape() if known is None else shapes.state_space(known.sizes, config)
    longest, longest_rows = _limits(config, settings, kinds)
    weights = _weights(location)
    return ModelDescription(
        id=location.name,
        source=location.source,
        architecture=model_type,
        layers=_layers(layers, own, config, shapes.mlp_neurons(config, kinds)),
        hidden_size=hidden,
        channels=own.channels,
        d_state=own.d_state,
        dt_rank=None if known is None else shapes.step_rank(known.sizes, config),
        mlp_channels=shapes.mlp_channels(config, kinds),
        window=shapes.window(config),
        vocab_size=config.positive("vocab_size"),
        parameters=None if weights is None else weights.parameters,
        stored_bytes=None if weights is None else weights.stored_bytes,
        dtype=settings.for_model(location.name).dtype,
        max_tokens=longest,
        max_row_tokens=longest_rows,
        default_layers=select_layers(None, len(layers)),
        resident_on=[],
    )


def _layers(
    layers: list[LayerMixers], state_space: Shape, config: Config, mlp_neurons: int | None
) -> list[LayerDescription]:
    found = {mixers.own: state_space for mixers in layers}
    found[Mixer.NONE] = Shape()
    if Mixer.SOFTMAX in found:
        found[Mixer.SOFTMAX] = shapes.attention(config)
    # Where MLPs are layers of their own, the others have none.
    apart = Mixer.NONE in (mixers.own for mixers in layers) and len(found) > 2
    return [
        LayerDescription(
            layer=index,
            mixer=mixers.own,
            beside=mixers.beside,
            mlp_neurons=0 if apart and mixers.own is not Mixer.NONE else mlp_neurons,
            methods=[] if mixers.own is Mixer.NONE else list(Method),
            channels=found[mixers.own].channels,
            heads=found[mixers.own].heads,
            groups=found[mixers.own].groups,
            d_state=found[mixers.own].d_state,
        )
        for index, mixers in enumerate(layers)
    ]


def _limits(config: Config, settings: Settings, mixers: set[Mixer]) -> tuple[int, int]:
    """Tokens of the longest text, and of the longest of which only a row is read."""
    linear = mixers <= _LINEAR
    rows = max(settings.max_tokens, settings.max_row_tokens if linear else 0)
    limits = settings.max_tokens, rows
    if not config.has(*POSITIONS):
        return limits
    positions = config.positive(*POSITIONS)
    return min(limits[0], positions), min(limits[1], positions)


def _weights(location: Location) -> WeightsSize | None:
    """None for weights that cannot be read, which is for whoever loads them to report."""
    try:
        return None if location.path is None else weights_size(location.path, location.name)
    except ProblemError:
        return None
