"""From the name of a model in a request to the directory that holds it."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from pydantic import TypeAdapter, ValidationError

from catalogue.files import CONFIG_FILE, is_native_directory
from catalogue.native import TOKENIZER_ID
from catalogue.tokeniser import TOKENIZER_FILE
from schemas.catalogue import Source
from schemas.request import ModelName
from schemas.settings import Settings

POCKET = "pocket"
# An error names at most this many models; `GET /v1/models` lists all.
_NAMES_TOLD = 20
_POCKET_DIR = Path(__file__).parent / POCKET
_NAME: TypeAdapter[str] = TypeAdapter(ModelName)


@dataclass(frozen=True)
class Location:
    """A model that may be asked for; `path` is None while its files are not on this disk.

    `other_tokeniser` is the directory of its tokenizer.json where that is not `path`.
    """

    name: str
    source: Source
    path: Path | None
    revision: str | None = None
    other_tokeniser: Path | None = None

    @property
    def tokeniser_path(self) -> Path | None:
        """The directory in which its tokenizer.json lies or should lie."""
        return self.other_tokeniser or self.path


class UnknownModel(LookupError):  # noqa: N818 - it says what is the case, like LookupError
    """No model of that name may be asked for here; the message says which may."""


def locate(name: str, settings: Settings) -> Location:
    """Where the model `name` lies: bundled, under `model_dir`, or in the Hugging Face cache.

    A directory wins over a Hugging Face id of the same name. Nothing is downloaded: an allowed id
    that is not cached has no path. Raises UnknownModel.
    """
    if not _well_formed(name):
        raise UnknownModel(_unknown(name, settings))
    owner, _, short = name.partition("/")
    if owner == POCKET:
        path = _inside(_POCKET_DIR, short) if short else None
        if path is None:
            raise UnknownModel(_unknown(name, settings))
        return Location(name, "pocket", path)
    if settings.model_dir is not None:
        path = _inside(settings.model_dir, name)
        if path is not None:
            return Location(name, "directory", path)
    if _allowed_id(name, settings):
        return _cached(name)
    raise UnknownModel(_unknown(name, settings))


def installed(settings: Settings) -> list[Location]:
    """Every model on this disk that can be named: the bundled ones, then those of `model_dir`."""
    names = [f"{POCKET}/{name}" for name in _names(_POCKET_DIR, depth=1)]
    if settings.model_dir is not None:
        names += [n for n in _names(settings.model_dir, depth=2) if not n.startswith(f"{POCKET}/")]
    return [locate(name, settings) for name in names]


def _well_formed(name: str) -> bool:
    try:
        _NAME.validate_python(name)
    except ValidationError:
        return False
    return True


def _allowed_id(name: str, settings: Settings) -> bool:
    """Whether the name is a possible Hugging Face id that one of the patterns allows."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return any(fnmatchcase(name, pattern) for pattern in settings.hugging_face_ids)


def _inside(root: Path, name: str) -> Path | None:
    """The directory `name` of `root`, unless it is missing or a link leads it out of `root`."""
    try:
        path = (root / name).resolve()
        is_there = path.is_dir() and path.is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # longer than a file's name may be, closed, or links in a ring
        return None
    return path if is_there else None


def _names(root: Path, depth: int) -> Iterator[str]:
    """Names of the model directories of `root`, `name` or (at depth 2) `owner/name`, sorted."""
    patterns = ["/".join(["*"] * level + [CONFIG_FILE]) for level in range(1, depth + 1)]
    found = (path.parent for pattern in patterns for path in root.glob(pattern))
    names = (directory.relative_to(root).as_posix() for directory in found)
    return (name for name in sorted(names) if _well_formed(name) and _inside(root, name))


def _cached(name: str) -> Location:
    """The snapshot of a Hugging Face id in the local cache, if its config is there."""
    config = try_to_load_from_cache(name, CONFIG_FILE)
    if not isinstance(config, str):
        return Location(name, "hugging-face", None)
    snapshot = Path(config).parent
    return Location(name, "hugging-face", snapshot, snapshot.name, _other_tokeniser(snapshot))


def _other_tokeniser(snapshot: Path) -> Path | None:
    """Where the tokenizer of a native snapshot lies in the cache: another repository has it."""
    if (snapshot / TOKENIZER_FILE).is_file() or not is_native_directory(snapshot):
        return None
    file = try_to_load_from_cache(TOKENIZER_ID, TOKENIZER_FILE)
    return Path(file).parent if isinstance(file, str) else None


def _unknown(name: str, settings: Settings) -> str:
    names = [location.name for location in installed(settings)]
    known = ", ".join(names[:_NAMES_TOLD]) or "none"
    if len(names) > _NAMES_TOLD:
        known += f" and {len(names) - _NAMES_TOLD} more"
    message = f"There is no model `{name[:100]}`. Installed here: {known}."
    if settings.hugging_face_ids:
        message += f" Hugging Face ids allowed: {', '.join(settings.hugging_face_ids)}."
    return message
