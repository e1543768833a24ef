"""`mambascope keys`: real processes on real stores."""

import json
import re
import subprocess
from pathlib import Path

import httpx

from jobs import Jobs
from jobs.access.access_keys import AccessKeys
from mambascope.embedded import embed
from schemas.access import AccessKey, KeyLimits
from schemas.settings import Settings
from tests.mambascope.test_cli import Installation, installation, mambascope, url_of
from tests.service.keys import bearer
from tests.workers.conftest import environment, until

__all__ = ["installation"]


def keys(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `mambascope keys` on the store of a test."""
    return mambascope("keys", *arguments, **environment(settings))


def test_a_key_is_made_shown_once_listed_and_revoked(settings: Settings, jobs: Jobs) -> None:
    made = keys(settings, "create", "Zoë", "--requests-per-minute", "60", "--tokens-per-day", "9")
    assert made.returncode == 0
    key = made.stdout.removesuffix("\n")
    assert re.fullmatch(r"msk_\w{10}_\w{49}", key)
    assert key not in made.stderr
    assert "It is the first" in made.stderr
    access = AccessKeys(jobs.redis, settings)
    found = access.find(key)
    assert found is not None
    assert (found.name, found.limits) == (
        "Zoë",
        KeyLimits(requests_per_minute=60, tokens_per_day=9),
    )
    listed = keys(settings, "list", "--json")
    [shown] = [AccessKey.model_validate(each) for each in json.loads(listed.stdout)]
    assert shown.id == found.id
    assert shown.last_used_at is not None
    table = keys(settings, "list")
    assert found.id in table.stdout and "Zoë" in table.stdout
    assert key.rpartition("_")[2] not in listed.stdout + table.stdout
    revoked = keys(settings, "revoke", found.id)
    assert (revoked.returncode, revoked.stdout) == (0, "")
    assert access.find(key) is None


def test_what_is_wrong_is_said_in_a_line(settings: Settings, tmp_path: Path) -> None:
    listed = keys(settings, "list")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "No key was ever made" in listed.stderr
    assert keys(settings, "list", "--json").stdout == "[]\n"
    for code, arguments in (
        (1, ("revoke", "nobody")),
        (2, ("create", "")),
        (2, ("create", "two\nlines")),
    ):
        said = keys(settings, *arguments)
        assert (said.returncode, said.stdout) == (code, "")
        assert said.stderr.startswith("mambascope: ")
        assert said.stderr.count("\n") == 1
    assert keys(settings, "create", "me", "--queued-jobs", "0").returncode == 2
    away = mambascope("keys", "list", MAMBASCOPE_REDIS_URL="redis://127.0.0.1:1/0")
    assert (away.returncode, away.stderr) == (2, "mambascope: the store does not answer\n")


def test_the_embedded_store_is_found_by_its_data_directory(tmp_path: Path) -> None:
    # Deep enough that the socket's path would not fit into a socket address.
    data = tmp_path.joinpath(*["deeper-down"] * 12)
    command = ("keys", "create", "me", "--data-dir", str(data))
    missing = mambascope(*command)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith(f"mambascope: No `mambascope up` runs on {data}: ")
    store = embed(data)
    server = subprocess.Popen(store.command(), stdout=subprocess.DEVNULL)
    try:
        until(store.answers, "the store")
        assert mambascope(*command).stdout.startswith("msk_")
    finally:
        server.kill()
        server.wait()
        store.clean()
    # Its socket may be left behind.
    assert mambascope(*command).returncode == 2


def test_an_installation_goes_on_with_keys_and_may_then_be_reached(
    installation: Installation,
) -> None:
    up, line = installation.up()
    url, data = url_of(line), str(installation.data)
    key = mambascope("keys", "create", "me", "--data-dir", data).stdout.strip()
    request = {"models": ["hollow"], "texts": ["a"]}
    until(lambda: httpx.get(f"{url}/v1/models").status_code == 401, "the door to close")
    with httpx.Client(base_url=url, headers=bearer(key)) as client:
        path = client.post("/v1/jobs", json=request).headers["Location"]
        until(lambda: client.get(path).json()["status"] == "succeeded", "the job")
    up.terminate()
    up.wait()
    up, line = installation.up("--host", "0.0.0.0")
    assert line.startswith("Mambascope is ready at http://127.0.0.1:"), line
    url = line.split()[4]
    assert httpx.get(url + path).status_code == 401
    assert httpx.get(url + path, headers=bearer(key)).json()["status"] == "succeeded"
