"""Taking a request in as a job: what may run, on what terms, and what is said where it may not."""

import re
from typing import NoReturn

from fastapi import Request

from catalogue.admission import admit
from catalogue.fingerprint import fingerprint
from jobs import Terms
from jobs.hub import Submitted
from jobs.submission import KeyReused, QueueFull, TokensSpent
from schemas.problem import FieldError, ProblemError, ProblemType
from schemas.request import JobRequest
from service.access.caller import Caller
from service.context import Context
from service.intake.body import parse_object
from service.intake.validation import validate_request
from service.webhooks import require_deliverable

_ONCE = "Idempotency-Key"
_ONCE_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


def once_of(request: Request) -> str:
    """The request's idempotency key, if it has one. Raises ProblemError(INVALID_REQUEST)."""
    given = request.headers.getlist(_ONCE)
    if not given:
        return ""
    if len(given) > 1 or _ONCE_KEY.fullmatch(given[0]) is None:
        detail = f"Give one `{_ONCE}` of 1 to 255 ASCII characters, such as a UUID."
        raise ProblemError.of_field(FieldError(parameter=_ONCE, detail=detail))
    return given[0]


def accept(context: Context, body: bytearray, caller: Caller, once: str) -> Submitted:
    """Take a body in as a job of the caller's, under its idempotency key if it has one.

    What was accepted under its key before is not judged again, by what has changed since. Raises
    ProblemError for what is wrong with it, and for a limit that is reached.
    """
    request = validate_request(parse_object(body))
    try:
        before = context.jobs.submitted(request, caller.owner, once) if once else None
        return before or _accept(context, request, caller, once)
    except KeyReused:
        raise ProblemError(
            ProblemType.KEY_REUSED,
            f"This `{_ONCE}` came with another body in the last 24 hours. Use a new one for each "
            "request, and the same only to send the same request again.",
            [FieldError(parameter=_ONCE, detail="Use a new key.")],
        ) from None


def _accept(context: Context, request: JobRequest, caller: Caller, once: str) -> Submitted:
    """A request that did not come before, or comes again at this moment. Raises KeyReused too."""
    require_deliverable(request, context.settings)
    tokens = admit(request, context.settings)
    _require_affordable(tokens, caller)
    terms = Terms(
        owner=caller.owner,
        share=caller.share,
        fingerprint=fingerprint(request, context.settings) if request.reuse else "",
        once=once,
        most_waiting=caller.limits.queued_jobs or 0,
        tokens=tokens,
        most_tokens=caller.limits.tokens_per_day or 0,
    )
    try:
        return context.jobs.submit(request, terms)
    except QueueFull:
        raise ProblemError(
            ProblemType.QUEUE_LIMIT,
            f"This key may have {caller.limits.queued_jobs} jobs waiting, and has. Wait until some "
            "have started.",
        ) from None
    except TokensSpent as spent:
        raise ProblemError(
            ProblemType.TOKEN_LIMIT,
            f"The job has {tokens} tokens; of the {caller.limits.tokens_per_day} that this key may "
            f"spend in a day {spent.left} are left until midnight UTC.",
            retry_after=spent.more_in,
        ) from None


def raise_used_up(job_id: str) -> NoReturn:
    """Say that the job that an idempotency key made is there no more."""
    raise ProblemError(
        ProblemType.GONE,
        f"Job `{job_id}`, which this `{_ONCE}` made, is there no more. Send the request again "
        "under a new key.",
        [FieldError(parameter=_ONCE, detail="Use a new key.")],
    )


def _require_affordable(tokens: int, caller: Caller) -> None:
    """Refuse what no day's tokens would do for. Raises ProblemError(INVALID_REQUEST)."""
    most = caller.limits.tokens_per_day
    if most is not None and tokens > most:
        detail = (
            f"The job has {tokens} tokens, over all texts and models; this key may spend {most} in "
            "a day. Send fewer or shorter texts, or fewer models, a job."
        )
        raise ProblemError.of_field(FieldError(pointer="/texts", detail=detail))
