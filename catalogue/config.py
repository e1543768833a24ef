"""A model's config.json, whose values may be anything: each is checked as it is read."""

import json
from dataclasses import dataclass
from typing import Any

from catalogue.files import CONFIG_FILE, read_file
from catalogue.locate import Location
from catalogue.native import as_transformers
from schemas.problem import ProblemError, ProblemType


@dataclass(frozen=True)
class Config:
    """The values of the model `name`. Every method raises `invalid` for a value of a wrong kind."""

    values: dict[str, Any]
    name: str

    @classmethod
    def read(cls, location: Location) -> "Config":
        """The config of a model on disk, by transformers' keys.

        Raises ProblemError: model-unavailable without a directory, model-invalid for a file that is
        missing or broken, and what `as_transformers` raises for one in mamba_ssm's own format.
        """
        name, path = location.name, location.path
        if path is None:
            detail = f"The files of `{name}` are not on this disk yet."
            raise ProblemError(ProblemType.MODEL_UNAVAILABLE, detail)
        found = cls({}, name)
        try:
            values = json.loads(read_file(path / CONFIG_FILE))
        except FileNotFoundError:
            raise found.invalid("the file is missing") from None
        except OSError as error:
            raise found.invalid(f"the file cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError):
            raise found.invalid("the file is not JSON") from None
        if not isinstance(values, dict):
            raise found.invalid("it is not a JSON object")
        return cls(as_transformers(values, name), name)

    def has(self, *keys: str) -> bool:
        """Whether any of the keys has a value."""
        return any(self.values.get(key) is not None for key in keys)

    def positive(self, *keys: str, default: int | None = None) -> int:
        """The first of the keys that has a value, a whole number above 0, or else the default."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
            raise self.invalid(f"`{key}` must be a whole number above 0")
        if default is None:
            raise self.invalid(f"it has no `{keys[0]}`")
        return default

    def widest(self, *keys: str, default: int) -> int:
        """As `positive`; of a list, one number a layer, the largest."""
        for key in keys:
            value = self.values.get(key)
            if isinstance(value, list) and value:
                return max(Config({key: each}, self.name).positive(key) for each in value)
        return self.positive(*keys, default=default)

    def factor(self, key: str) -> float:
        """A finite number above 0, which may be a fraction."""
        value = self.values.get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        number = float(value) if is_number and value is not None else 0.0
        if 0 < number < float("inf"):
            return number
        raise self.invalid(f"`{key}` must be a number above 0")

    def whole(self, key: str, default: int) -> int:
        """A whole number, 0 or above."""
        value = self.values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise self.invalid(f"`{key}` must be a whole number, 0 or above")

    def words(self, *keys: str) -> list[str] | None:
        """The first of the keys that has a value, a list of words."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, list) and all(isinstance(word, str) for word in value):
                return value
            raise self.invalid(f"`{key}` must be a list of words")
        return None

    def invalid(self, why: str) -> ProblemError:
        """The problem of a config that cannot be used."""
        detail = f"The {CONFIG_FILE} of `{self.name}` is not usable: {why}."
        return ProblemError(ProblemType.MODEL_INVALID, detail)
