"""Descriptions and tokenisers, read again only when their files have changed."""

from functools import lru_cache
from pathlib import Path

from catalogue.describe import describe
from catalogue.files import CHECKPOINT_FILE, CONFIG_FILE
from catalogue.locate import Location
from catalogue.tokeniser import TOKENIZER_FILE, Tokeniser
from schemas.catalogue import ModelDescription
from schemas.settings import Settings

_MODELS_KEPT = 32

Stamp = tuple[int, int] | None


def description(location: Location, settings: Settings) -> ModelDescription:
    """`describe`, remembered until config or weights change. Raises what `describe` raises."""
    path = location.path
    weights = [] if path is None else sorted(file.name for file in path.glob("*.safetensors*"))
    stamps = tuple((name, _stamp(path, name)) for name in (CONFIG_FILE, CHECKPOINT_FILE, *weights))
    return _description(location, settings, stamps)


def tokeniser(path: Path) -> Tokeniser:
    """`Tokeniser.load`, remembered until tokenizer.json changes. Raises what it raises."""
    return _tokeniser(path, _stamp(path, TOKENIZER_FILE))


def _stamp(path: Path | None, name: str) -> Stamp:
    """Modification time and size of a file; None when it is not there."""
    if path is None:
        return None
    try:
        status = (path / name).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@lru_cache(_MODELS_KEPT)
def _description(
    location: Location, settings: Settings, stamps: tuple[tuple[str, Stamp], ...]
) -> ModelDescription:
    return describe(location, settings)


@lru_cache(_MODELS_KEPT)
def _tokeniser(path: Path, stamp: Stamp) -> Tokeniser:
    return Tokeniser.load(path)
