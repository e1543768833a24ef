"""What a model's config.json and its weights' headers say about it; no weights are read."""

from catalogue import shapes
from catalogue.architectures import layer_mixers
from catalogue.config import Config
from catalogue.locate import Location
from catalogue.weights import WeightsSize, weights_size
from schemas.catalogue import LayerDescription, ModelDescription
from schemas.names import Method, Mixer
from schemas.problem import ProblemError
from schemas.request import select_layers
from schemas.settings import Settings

# What reads a row in linear time, memory included.
_LINEAR = {Mixer.S6, Mixer.SSD}
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")


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
    mixers = layer_mixers(model_type, config)
    hidden = config.positive(*shapes.HIDDEN)
    own = shapes.state_space(model_type, config)
    longest, longest_rows = _limits(config, settings, set(mixers))
    weights = _weights(location)
    return ModelDescription(
        id=location.name,
        source=location.source,
        architecture=model_type,
        layers=_layers(mixers, model_type, config),
        hidden_size=hidden,
        channels=own.channels,
        d_state=own.d_state,
        dt_rank=shapes.step_rank(model_type, config),
        mlp_channels=shapes.mlp_channels(config, set(mixers)),
        vocab_size=config.positive("vocab_size"),
        parameters=None if weights is None else weights.parameters,
        stored_bytes=None if weights is None else weights.stored_bytes,
        max_tokens=longest,
        max_row_tokens=longest_rows,
        default_layers=select_layers(None, len(mixers)),
        resident_on=[],
    )


def _layers(mixers: list[Mixer], model_type: str, config: Config) -> list[LayerDescription]:
    found = {mixer: shapes.shape_of(mixer, model_type, config) for mixer in set(mixers)}
    return [
        LayerDescription(
            layer=index,
            mixer=mixer,
            methods=[] if mixer is Mixer.NONE else list(Method),
            channels=found[mixer].channels,
            heads=found[mixer].heads,
            groups=found[mixer].groups,
            d_state=found[mixer].d_state,
        )
        for index, mixer in enumerate(mixers)
    ]


def _limits(config: Config, settings: Settings, mixers: set[Mixer]) -> tuple[int, int]:
    """Tokens of the longest text, and of the longest of which only a row is read."""
    linear = mixers <= _LINEAR
    rows = max(settings.max_tokens, settings.max_row_tokens if linear else 0)
    limits = settings.max_tokens, rows
    if not config.has(*_POSITIONS):
        return limits
    positions = config.positive(*_POSITIONS)
    return min(limits[0], positions), min(limits[1], positions)


def _weights(location: Location) -> WeightsSize | None:
    """None for weights that cannot be read, which is for whoever loads them to report."""
    try:
        return None if location.path is None else weights_size(location.path, location.name)
    except ProblemError:
        return None
