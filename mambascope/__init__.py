"""What a user types or imports: the clients, the command line and the embedded stack.

`from mambascope import Client` loads the client and nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mambascope.client.analysis import Analysis, AsyncAnalysis
    from mambascope.client.clients import AsyncClient, Client
    from mambascope.client.errors import (
        JobCancelled,
        JobEndedWithoutResult,
        JobFailed,
        JobGone,
        MambascopeError,
        NotFound,
        RateLimited,
        RequestRefused,
        ServiceFault,
        TensorsNotStored,
        TimedOut,
        Unauthenticated,
        Unreachable,
    )
    from mambascope.client.findings import Figure
    from mambascope.client.handles import AsyncJobHandle, JobHandle

__all__ = [
    "Analysis",
    "AsyncAnalysis",
    "AsyncClient",
    "AsyncJobHandle",
    "Client",
    "Figure",
    "JobCancelled",
    "JobEndedWithoutResult",
    "JobFailed",
    "JobGone",
    "JobHandle",
    "MambascopeError",
    "NotFound",
    "RateLimited",
    "RequestRefused",
    "ServiceFault",
    "TensorsNotStored",
    "TimedOut",
    "Unauthenticated",
    "Unreachable",
]

_HOMES = {
    "Analysis": "analysis",
    "AsyncAnalysis": "analysis",
    "AsyncClient": "clients",
    "AsyncJobHandle": "handles",
    "Client": "clients",
    "Figure": "findings",
    "JobHandle": "handles",
}


def __getattr__(name: str) -> Any:
    """A public name, loaded when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mambascope.client.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
