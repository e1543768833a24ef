"""From a location to a directory that is on this disk: the only place that downloads."""

from dataclasses import replace
from pathlib import Path

import httpx
from huggingface_hub import snapshot_download

from catalogue.locate import CONFIG_FILE, Location
from catalogue.tokeniser import TOKENIZER_FILE
from catalogue.weights import INDEX, SINGLE, weight_files
from schemas.problem import ProblemError, ProblemType

# Neither code nor pickles are ever fetched.
_WANTED = [CONFIG_FILE, TOKENIZER_FILE, SINGLE, INDEX, "model-*.safetensors"]


def fetch(location: Location) -> Location:
    """The location with a path; a Hugging Face id that is not complete in the cache is downloaded.

    Raises ProblemError (model-unavailable) when it cannot be downloaded.
    """
    if location.source != "hugging-face" or _complete(location):
        return location
    try:
        path = Path(snapshot_download(location.name, allow_patterns=_WANTED))
    except (OSError, ValueError, httpx.HTTPError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ProblemError(
            ProblemType.MODEL_UNAVAILABLE,
            f"`{location.name}` could not be downloaded ({reason}). Check the id and the worker's "
            "network, or put its files in a directory under MAMBASCOPE_MODEL_DIR.",
        ) from error
    return replace(location, path=path, revision=path.name)


def _complete(location: Location) -> bool:
    path = location.path
    if path is None or not (path / CONFIG_FILE).is_file() or not (path / TOKENIZER_FILE).is_file():
        return False
    try:
        return bool(weight_files(path, location.name))
    except ProblemError:
        return False
