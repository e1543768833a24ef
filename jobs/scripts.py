"""The scripts that run inside the store, each with what all of them share before it."""

from importlib.resources import files

COMMON = files("jobs").joinpath("common.lua").read_text(encoding="utf-8")


def script(name: str, package: str = "jobs") -> str:
    """The script in a file of a package."""
    return f"{COMMON}\n{files(package).joinpath(name).read_text(encoding='utf-8')}"
