"""A name of everything that a job's result depends on, so that equal jobs share one."""

import hashlib
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from catalogue.files import Stamp, stamp
from catalogue.locate import UnknownModel, locate
from schemas.request import JobRequest
from schemas.settings import Settings

# What is said with a request and is not about its result.
_ASIDE = {"metadata", "webhook", "reuse"}
# The packages of ours that make a result, and the libraries whose version may show in it.
_CODE = ("schemas", "catalogue", "workers")
_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "numba", "matplotlib")


def fingerprint(request: JobRequest, settings: Settings) -> str:
    """A digest of the request, the models' files, the code and the settings of models.

    Files are told by which they are, their size and their time, not by reading them: weights are
    large. Empty where a model's files are not on this disk, since they may be others when the job
    runs.
    """
    models = [_model(name, settings) for name in request.models]
    if not all(models):
        return ""
    asked = request.model_dump(mode="json", exclude=_ASIDE)
    known = [_code(), asked, models, settings.device, settings.reconstruction_tolerance]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _model(name: str, settings: Settings) -> list[object]:
    """What tells a model from another; nothing where its files are not here."""
    try:
        place = locate(name, settings)
    except UnknownModel:
        return []
    if place.path is None:
        return []
    folders = [place.path, *([place.other_tokeniser] if place.other_tokeniser else [])]
    files = [(str(folder), _stamps(folder)) for folder in folders]
    return [place.revision, files, settings.for_model(name).model_dump(mode="json")]


def _stamps(folder: Path) -> list[tuple[str, Stamp]]:
    try:
        return [(path.name, stamp(path)) for path in sorted(folder.iterdir())]
    except OSError:
        return []


@cache
def _code() -> str:
    """The code that makes a result: ours as this process found it, and its libraries' versions."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for package in _CODE:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library} {_version(library)}".encode())
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
