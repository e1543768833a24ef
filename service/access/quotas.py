"""What a limited key is told of its limits: draft-ietf-httpapi-ratelimit-headers.

`RateLimit-Policy: "requests";q=60;w=60` says what a key may do, `RateLimit: "requests";r=5;t=10`
what is left and in how many seconds there is more. Of units the draft knows requests alone;
tokens and jobs are called what they are.
"""

from jobs.access.limits import MINUTE, QUEUED_JOBS, REQUESTS, TOKENS, Left
from schemas.access import KeyLimits
from schemas.settings import DAY

Header = tuple[bytes, bytes]


def policy_header(limits: KeyLimits) -> Header | None:
    """What a key may do; None where it may do anything."""
    policies = []
    if limits.requests_per_minute is not None:
        policies.append(f'"{REQUESTS}";q={limits.requests_per_minute};w={MINUTE}')
    if limits.tokens_per_day is not None:
        policies.append(f'"{TOKENS}";q={limits.tokens_per_day};qu="tokens";w={DAY}')
    if limits.queued_jobs is not None:
        policies.append(f'"{QUEUED_JOBS}";q={limits.queued_jobs};qu="jobs"')
    return (b"ratelimit-policy", ", ".join(policies).encode()) if policies else None


def left_header(left: dict[str, Left]) -> Header | None:
    """What is left under each limit; None where none was asked for."""
    items = [
        f'"{name}";r={one.units}' + ("" if one.more_in is None else f";t={one.more_in}")
        for name, one in left.items()
    ]
    return (b"ratelimit", ", ".join(items).encode()) if items else None
