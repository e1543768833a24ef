"""Where a service is and who asks it, from arguments and the environment."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from mambascope.client.service import Service
from mambascope.client.wire import BlockingWire

URL_VARIABLE = "MAMBASCOPE_URL"
KEY_VARIABLE = "MAMBASCOPE_KEY"
# Where `mambascope up` listens if nothing else is said.
DEFAULT_URL = "http://127.0.0.1:8090"
# Seconds.
HTTP_TIMEOUT = 60.0


@contextmanager
def connect(
    url: str, *, away: Callable[[str], None] = lambda line: None, ours: bool = False
) -> Iterator[Service]:
    """A service at an address. `ours`: on this machine, whatever proxy the environment names.

    Raises ValueError for a key in the environment that cannot be sent.
    """
    with httpx.Client(
        base_url=url, headers=authorization(url), timeout=HTTP_TIMEOUT, trust_env=not ours
    ) as http:
        yield Service(BlockingWire(http), away=away)


def authorization(url: str, key: str | None = None) -> dict[str, str]:
    """The header with the key, or with that of the environment. Raises ValueError."""
    key = (os.environ.get(KEY_VARIABLE, "") if key is None else key).strip()
    if not key:
        return {}
    if not all("!" <= character <= "~" for character in key):
        raise ValueError("The key is not one line of visible ASCII characters.")
    if httpx.URL(url).userinfo:
        raise ValueError("Give a key, or a name and password in the URL: a request carries one.")
    return {"Authorization": f"Bearer {key}"}


def address(written: str | None = None) -> str:
    """An address with its scheme, else that of the environment. Raises ValueError."""
    written = written or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    full = written if "://" in written else f"http://{written}"
    try:
        url = httpx.URL(full)
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"{written!r} is no address ({error}).") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{written!r} is no address such as http://localhost:8090.")
    return full
