"""What comes with a request besides what is to be analysed, and what the script is told of it."""

import hashlib
import json
from dataclasses import dataclass

from jobs.gathering import pass_of, text_bytes
from schemas.request import JobRequest

# How long an idempotency key is remembered, in milliseconds.
ONCE_MS = 24 * 3600 * 1000
# Every progress of a job is told to all that follow it, so there are not too many.
_MOST_FOLLOWERS = 100


class KeyReused(Exception):  # noqa: N818 - it says what is the case
    """The idempotency key came with another request before."""


class QueueFull(Exception):  # noqa: N818 - it says what is the case
    """The owner has as many queued jobs as it may have."""


class TokensSpent(Exception):  # noqa: N818 - it says what is the case
    """The owner may not have so many tokens computed today."""

    def __init__(self, left: int, more_in: int) -> None:
        super().__init__(f"{left} tokens are left, and more in {more_in} s")
        self.left = left
        self.more_in = more_in

    @classmethod
    def told(cls, answer: str) -> "TokensSpent":
        """From what the script answers."""
        left, milliseconds = answer.split()
        return cls(int(left), -(-int(milliseconds) // 1000))


@dataclass(frozen=True)
class Terms:
    """On whose behalf a request comes, and how it is to be taken.

    `owner`: the key that may see the job, empty where nobody asks for keys. `share`: whoever is to
    have a fair share of the workers; shown to nobody. `fingerprint`: of all that the result depends
    on; jobs of one owner that have the same share one result; empty: it is not shared. `once`: the
    client's idempotency key. `most_waiting`: how many jobs the owner may have queued; 0: any.
    `tokens`: what the job costs, and `most_tokens`: what the owner may spend in a day; 0: any. They
    are spent when the job is accepted and not given back; one that shares a result costs none.
    """

    owner: str = ""
    share: str = ""
    fingerprint: str = ""
    once: str = ""
    most_waiting: int = 0
    tokens: int = 0
    most_tokens: int = 0


def creation(request: JobRequest, terms: Terms) -> list[str | int]:
    """The arguments of the operation `create`, in its order."""
    secret = request.webhook.secret if request.webhook else None
    body = request.model_dump_json()
    summary = {"models": request.models, "texts": len(request.texts), "metadata": request.metadata}
    return [
        body if secret is None else _without_secret(request).model_dump_json(),
        pass_of(request),
        terms.share,
        text_bytes(request),
        terms.owner,
        json.dumps(summary),
        request.webhook.url if request.webhook else "",
        secret or "",
        terms.fingerprint,
        digest(terms.once),
        digest(body) if terms.once else "",
        ONCE_MS,
        terms.most_waiting,
        _MOST_FOLLOWERS,
        terms.tokens,
        terms.most_tokens,
    ]


def _without_secret(request: JobRequest) -> JobRequest:
    assert request.webhook is not None
    webhook = request.webhook.model_copy(update={"secret": None})
    return request.model_copy(update={"webhook": webhook})


def digest(text: str) -> str:
    """What stands for an idempotency key, or for a body, in the store; of nothing, nothing."""
    return hashlib.sha256(text.encode()).hexdigest() if text else ""
