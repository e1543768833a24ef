"""On whose behalf a request comes."""

from dataclasses import dataclass

from fastapi import Request
from starlette.types import Scope

from schemas.access import AccessKey, KeyLimits

_CALLER = "mambascope.caller"
_UNLIMITED = KeyLimits()


@dataclass(frozen=True)
class Caller:
    """Who asks. `owner` sees the jobs that it made; `share` is to have a fair share of workers."""

    owner: str
    share: str
    limits: KeyLimits = _UNLIMITED


def caller_of(request: Request) -> Caller:
    """Who sent a request to the API, as `service.access.gate` found."""
    caller: Caller = request.scope[_CALLER]
    return caller


def admit_key(scope: Scope, key: AccessKey) -> None:
    """Say that a request comes from the holder of a key, which owns its jobs and has one share."""
    scope[_CALLER] = Caller(owner=key.id, share=key.id, limits=key.limits)


def admit_anyone(scope: Scope) -> None:
    """Say that a request comes from whoever reaches the service; each address has one share."""
    client = scope["client"]
    scope[_CALLER] = Caller(owner="", share=client[0] if client else "")
