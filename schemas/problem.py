"""RFC 9457 problems: one object for HTTP errors and for `job.error`."""

from enum import Enum

from pydantic import Field

from schemas.base import Contract
from schemas.names import PROBLEM_BASE


class ProblemType(Enum):
    """Every kind of problem the service can report: (slug, title, HTTP status)."""

    INVALID_REQUEST = ("invalid-request", "The request is not valid", 422)
    MALFORMED_JSON = ("malformed-json", "The body is not JSON", 400)
    REQUEST_TIMEOUT = ("request-timeout", "The body did not arrive in time", 408)
    UNSUPPORTED_MEDIA_TYPE = ("unsupported-media-type", "The body must be JSON", 415)
    BODY_TOO_LARGE = ("body-too-large", "The body is over the limit", 413)
    UNAUTHENTICATED = ("unauthenticated", "A valid key is needed", 401)
    NOT_FOUND = ("not-found", "There is no such thing here", 404)
    GONE = ("gone", "The job is there no more", 410)
    METHOD_NOT_ALLOWED = ("method-not-allowed", "This method is not allowed here", 405)
    NOT_FINISHED = ("not-finished", "The job has not ended yet", 409)
    ALREADY_ENDED = ("already-ended", "The job has ended already", 409)
    KEY_REUSED = ("idempotency-key-reused", "This key came with another body before", 422)
    PRECONDITION_FAILED = ("precondition-failed", "The bytes are not those expected", 412)
    RANGE_NOT_SATISFIABLE = ("range-not-satisfiable", "The range lies outside the bytes", 416)
    RATE_LIMIT = ("rate-limit", "Too many requests", 429)
    QUEUE_LIMIT = ("queue-limit", "Too many jobs are waiting", 429)
    TOKEN_LIMIT = ("token-limit", "Too many tokens for one day", 429)
    JOB_FAILED = ("job-failed", "The job did not succeed, so there is no result", 409)
    UNAVAILABLE = ("unavailable", "A part of the service does not answer", 503)
    INTERNAL = ("internal", "The service made a mistake", 500)

    MODEL_UNAVAILABLE = ("model-unavailable", "The model cannot be fetched", 422)
    MODEL_INVALID = ("model-invalid", "The model's files are not usable", 422)
    UNSUPPORTED_ARCHITECTURE = ("unsupported-architecture", "This architecture has no adapter", 422)
    TRACE_MISMATCH = ("trace-mismatch", "The trace does not rebuild the model's own output", 422)
    NOT_FINITE = ("not-finite", "The model computed numbers that are not finite", 422)
    OUT_OF_MEMORY = ("out-of-memory", "The job needs more memory than there is", 507)
    STORAGE_FAILED = ("storage-failed", "What the job made could not be stored", 507)
    TIME_LIMIT = ("time-limit", "The job ran past its time limit", 504)
    WORKER_LOST = ("worker-lost", "The job's worker died too often", 500)

    def __init__(self, slug: str, title: str, status: int) -> None:
        self.slug = slug
        self.title = title
        self.status = status

    @property
    def uri(self) -> str:
        """The stable `type` of the problem."""
        return PROBLEM_BASE + self.slug


class FieldError(Contract):
    """One part that is wrong: where it stands in the request, and what to do."""

    pointer: str = Field(
        default="",
        description="JSON pointer (RFC 6901) to the field of the body",
        examples=["/layers/0"],
    )
    parameter: str | None = Field(
        default=None,
        exclude_if=lambda name: name is None,
        description="The query parameter or header that is wrong; absent where it is the body",
    )
    detail: str = Field(description="What is wrong and how to mend it")


class Problem(Contract):
    """An error as RFC 9457 problem details."""

    type: str = Field(
        examples=[ProblemType.INVALID_REQUEST.uri],
        description=f"Stable, to branch on: `{PROBLEM_BASE}` and one of "
        + ", ".join(f"`{kind.slug}`" for kind in ProblemType),
    )
    title: str = Field(description="The kind of problem, in words")
    status: int = Field(description="The HTTP status that goes with the kind")
    detail: str = Field(description="What happened and what to do about it")
    errors: list[FieldError] = Field(
        default_factory=list, description="Every part that is wrong, where it can be pointed to"
    )

    @classmethod
    def of(
        cls, kind: ProblemType, detail: str, errors: list[FieldError] | None = None
    ) -> "Problem":
        """A problem of a known kind."""
        return cls(
            type=kind.uri,
            title=kind.title,
            status=kind.status,
            detail=_written(detail),
            errors=[
                entry.model_copy(update={"detail": _written(entry.detail)})
                for entry in errors or []
            ],
        )


def _written(detail: str) -> str:
    """The same, with halves of characters, which names in files may hold, as escapes."""
    return detail.encode("utf-8", "backslashreplace").decode()


def and_more(errors: list[FieldError]) -> str:
    """What follows the first of several errors in a problem's detail."""
    return f" And {len(errors) - 1} more: see `errors`." if len(errors) > 1 else ""


class ProblemError(Exception):
    """An expected failure, carried as a problem to whoever can report it.

    `retry_after`: the seconds after which the same may go well, where that is known.
    """

    def __init__(
        self,
        kind: ProblemType,
        detail: str,
        errors: list[FieldError] | None = None,
        *,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.problem = Problem.of(kind, detail, errors)
        self.retry_after = retry_after

    @classmethod
    def of_field(cls, error: FieldError) -> "ProblemError":
        """A request of which one field is wrong (invalid-request). The detail says which."""
        place = f"`{error.parameter}`" if error.parameter else error.pointer
        return cls(ProblemType.INVALID_REQUEST, f"{place}: {error.detail}", [error])
