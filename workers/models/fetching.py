"""From a location to a directory that is on this disk: the only place that downloads."""

from dataclasses import replace
from pathlib import Path

import httpx
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError

from catalogue.files import CHECKPOINT_FILE, CONFIG_FILE, is_native_directory
from catalogue.locate import Location
from catalogue.native import TOKENIZER_ID
from catalogue.tokeniser import TOKENIZER_FILE
from catalogue.weights import INDEX, SINGLE, weight_files
from schemas.problem import ProblemError, ProblemType
from workers.models.refusing import first_line

# No code is ever fetched, and a pickle only beside a config in mamba_ssm's own format.
_WANTED = [CONFIG_FILE, TOKENIZER_FILE, SINGLE, INDEX, "model-*.safetensors"]


def fetch(location: Location) -> Location:
    """The location with a path; a Hugging Face id that is not complete in the cache is downloaded.

    A model in mamba_ssm's own format has no tokenizer: that of TOKENIZER_ID is downloaded beside
    it, into that repository's own place in the cache. Raises ProblemError (model-unavailable) when
    something cannot be downloaded.
    """
    if location.source != "hugging-face" or _complete(location):
        return location
    name = location.name
    try:
        path = Path(snapshot_download(name, allow_patterns=_WANTED))
        if is_native_directory(path) and not _has_weights(path, name):
            _fetch_checkpoint(name, path)
        found = replace(location, path=path, revision=path.name)
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise _unavailable(name, name, error) from error
    if (path / TOKENIZER_FILE).is_file() or not is_native_directory(path):
        return replace(found, other_tokeniser=None)
    try:
        tokeniser = Path(hf_hub_download(TOKENIZER_ID, TOKENIZER_FILE))
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise _unavailable(name, f"{TOKENIZER_FILE} of {TOKENIZER_ID}", error) from error
    return replace(found, other_tokeniser=tokeniser.parent)


def _fetch_checkpoint(name: str, snapshot: Path) -> None:
    """Add the pickled state dict to a snapshot; a repository that has none is left as it is."""
    try:
        hf_hub_download(name, CHECKPOINT_FILE, revision=snapshot.name)
    except EntryNotFoundError:
        return


def _unavailable(name: str, what: str, error: Exception) -> ProblemError:
    whose = "" if what == name else f" for `{name}`"
    return ProblemError(
        ProblemType.MODEL_UNAVAILABLE,
        f"`{what}` could not be downloaded{whose} ({first_line(error)}). Check the id and the "
        "worker's network, or put its files in a directory under MAMBASCOPE_MODEL_DIR.",
    )


def _complete(location: Location) -> bool:
    path, tokeniser = location.path, location.tokeniser_path
    if path is None or tokeniser is None:
        return False
    if not (path / CONFIG_FILE).is_file() or not (tokeniser / TOKENIZER_FILE).is_file():
        return False
    return _has_weights(path, location.name)


def _has_weights(path: Path, name: str) -> bool:
    try:
        return bool(weight_files(path, name))
    except ProblemError:
        return False
