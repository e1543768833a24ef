"""On whose behalf a request comes."""

from dataclasses import dataclass

from fastapi import Request


@dataclass(frozen=True)
class Caller:
    """Who asks. `owner` sees the jobs that it made; `share` is to have a fair share of workers."""

    owner: str
    share: str


def caller_of(request: Request) -> Caller:
    """Who sent a request."""
    return Caller(owner="", share=request.client.host if request.client else "")
