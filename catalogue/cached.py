"""Descriptions and tokenisers, read again only when their files have changed."""

from functools import lru_cache
from pathlib import Path

from catalogue.describe import describe
from catalogue.locate import CONFIG_FILE, Location
from catalogue.tokeniser import TOKENIZER_FILE, Tokeniser
from schemas.catalogue import ModelDescription

_MODELS_KEPT = 32

Stamp = tuple[int, int] | None


def description(location: Location, service_limit: int) -> ModelDescription:
    """`describe`, remembered until config.json changes. Raises what `describe` raises."""
    return _description(location, service_limit, _stamp(location.path, CONFIG_FILE))


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
def _description(location: Location, service_limit: int, stamp: Stamp) -> ModelDescription:
    return describe(location, service_limit)


@lru_cache(_MODELS_KEPT)
def _tokeniser(path: Path, stamp: Stamp) -> Tokeniser:
    return Tokeniser.load(path)
