"""Which version of Mambascope this is."""

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """The installed version, or `0+source` when run from a checkout that is not installed."""
    try:
        return version("mambascope")
    except PackageNotFoundError:
        return "0+source"
