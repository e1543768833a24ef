"""Descriptions and tokenisers, read again only when their files have changed."""

from functools import lru_cache
from pathlib import Path

from catalogue.describe import describe
from catalogue.files import CHECKPOINT_FILE, CONFIG_FILE, Stamp, stamp
from catalogue.locate import Location
from catalogue.tokeniser import TOKENIZER_FILE, Tokeniser
from schemas.catalogue import ModelDescription
from schemas.settings import Settings

_MODELS_KEPT = 32


def description(location: Location, settings: Settings) -> ModelDescription:
    """`describe`, remembered until config or weights change. Raises what `describe` raises."""
    path = location.path
    stamps: tuple[tuple[str, Stamp], ...] = ()
    if path is not None:
        weights = sorted(file.name for file in path.glob("*.safetensors*"))
        names = (CONFIG_FILE, CHECKPOINT_FILE, *weights)
        stamps = tuple((name, stamp(path / name)) for name in names)
    return _description(location, settings, stamps)


def tokeniser(path: Path) -> Tokeniser:
    """`Tokeniser.load`, remembered until tokenizer.json changes. Raises what it raises."""
    return _tokeniser(path, stamp(path / TOKENIZER_FILE))


@lru_cache(_MODELS_KEPT)
def _description(
    location: Location, settings: Settings, stamps: tuple[tuple[str, Stamp], ...]
) -> ModelDescription:
    return describe(location, settings)


@lru_cache(_MODELS_KEPT)
def _tokeniser(path: Path, stamped: Stamp) -> Tokeniser:
    return Tokeniser.load(path)
