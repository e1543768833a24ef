"""API keys, asked of `python -m jobs.access.keyring`: what a user imports speaks to no store."""

import json
import os
import subprocess
import sys
from pathlib import Path

from pydantic import TypeAdapter

from mambascope.embedded import EmbeddedUnavailable, reachable, running
from schemas.access import AccessKey, IssuedKey, NewKey
from schemas.settings import Settings, is_loopback

_KEYS = TypeAdapter(list[AccessKey])
_MAYBE_KEY: TypeAdapter[AccessKey | None] = TypeAdapter(AccessKey | None)


class KeyringError(Exception):
    """The keys cannot be asked for, or a key is missing; the message says what to do."""


class Keyring:
    """The keys in the store at a URL. Everything raises KeyringError."""

    def __init__(self, url: str) -> None:
        self._url = url

    @classmethod
    def of(cls, settings: Settings) -> "Keyring":
        """That of MAMBASCOPE_REDIS_URL, else of the `mambascope up` of the data directory."""
        if "redis_url" in settings.model_fields_set:
            return cls(settings.redis_url.get_secret_value())
        return cls(_embedded_url(settings.data_dir))

    def create(self, new: NewKey) -> IssuedKey:
        """Make a key."""
        return IssuedKey.model_validate_json(self._ask("create", new.model_dump_json()))

    def listed(self) -> list[AccessKey]:
        """Every key that was ever made, oldest first."""
        return _KEYS.validate_json(self._ask("list"))

    def revoke(self, key_id: str) -> AccessKey | None:
        """End a key; None where there is none of that id."""
        return _MAYBE_KEY.validate_json(self._ask("revoke", key_id))

    def exist(self) -> bool:
        """Whether a key was ever made."""
        return json.loads(self._ask("exist")) is True

    def _ask(self, *command: str) -> str:
        if not reachable(self._url):
            raise KeyringError("the store does not answer")
        asked = subprocess.run(
            [sys.executable, "-m", "jobs.access.keyring", *command],
            env={**os.environ, "MAMBASCOPE_REDIS_URL": self._url},
            capture_output=True,
            text=True,
        )
        if asked.returncode:
            lines = asked.stderr.splitlines() or [f"exit code {asked.returncode}"]
            raise KeyringError(lines[-1])
        return asked.stdout


def require_keys(host: str, url: str) -> None:
    """Raise KeyringError where other machines reach a host and there is no key for them."""
    if is_loopback(host):
        return
    try:
        why = "" if Keyring(url).exist() else "no key has been made"
    except KeyringError as error:
        why = f"whether there are keys is not known ({error})"
    if why:
        raise KeyringError(
            f"{host} can be reached from other machines, and {why}: listen on 127.0.0.1 and make "
            "one with `mambascope keys create`, or add --allow-remote if whoever reaches it may "
            "use it."
        )


def _embedded_url(data_dir: Path) -> str:
    try:
        server = running(data_dir)
    except EmbeddedUnavailable as error:
        raise KeyringError(str(error)) from error
    if server is None:
        raise KeyringError(
            f"No `mambascope up` runs on {data_dir}: start it, name its --data-dir, or set "
            "MAMBASCOPE_REDIS_URL to the store that the keys are for."
        )
    return server.url
