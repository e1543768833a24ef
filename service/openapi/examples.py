"""What the OpenAPI document shows as examples: of each answer, and of each problem."""

from datetime import UTC, datetime

from pydantic import BaseModel

from catalogue.methods import methods
from jobs.view import links_of
from schemas.catalogue import (
    Health,
    LayerDescription,
    MethodList,
    ModelDescription,
    ModelList,
    ModelSummary,
    Readiness,
)
from schemas.job import Artifact, ArtifactList, Job, JobList, JobSummary, Progress, Shows
from schemas.names import DEFAULT_MODEL, RESULT_FILE, ArtifactKind, Dtype, Method, Mixer, Status
from schemas.problem import FieldError, Problem, ProblemType
from schemas.request import JobRequest

JOB_ID = "01KAQ3V9Q0Z7X3M5B8F2N6T4RC"
_JOB_PATH = f"/v1/jobs/{JOB_ID}"
_REQUEST = JobRequest(texts=["apple 3 river 7 stone 1 river"], layers=[0, 1])

_ANSWERS: dict[str, BaseModel] = {
    "job": Job(
        id=JOB_ID,
        status=Status.QUEUED,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        queue_position=0,
        request=_REQUEST,
        links=links_of(JOB_ID),
    ),
    "cancelled": Job(
        id=JOB_ID,
        status=Status.CANCELLED,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        started_at=datetime(2026, 1, 1, second=1, tzinfo=UTC),
        finished_at=datetime(2026, 1, 1, second=3, tzinfo=UTC),
        expires_at=datetime(2026, 1, 8, second=3, tzinfo=UTC),
        progress=Progress(fraction=0.4),
        attempts=1,
        request=_REQUEST,
        links=links_of(JOB_ID),
    ),
    "jobs": JobList(
        jobs=[
            JobSummary(
                id=JOB_ID,
                status=Status.QUEUED,
                created_at=datetime(2026, 1, 1, tzinfo=UTC),
                queue_position=0,
                models=_REQUEST.models,
                texts=1,
                links=links_of(JOB_ID),
            )
        ],
        next_cursor="MDFLQVEzVjlRMFo3WDNNNUI4RjJONlQ0UkM",
    ),
    "artifacts": ArtifactList(
        job_id=JOB_ID,
        artifacts=[
            Artifact(
                name=RESULT_FILE,
                kind=ArtifactKind.RESULT,
                media_type="application/json",
                size=48213,
                sha256="0" * 64,
                shows=Shows(),
                href=f"{_JOB_PATH}/artifacts/{RESULT_FILE}",
            )
        ],
    ),
    "models": ModelList(
        models=[
            ModelSummary(
                id=DEFAULT_MODEL, source="pocket", default=True, href=f"/v1/models/{DEFAULT_MODEL}"
            )
        ],
        allowed_hugging_face_ids=["state-spaces/mamba-*", "gpt2"],
    ),
    "model": ModelDescription(
        id=DEFAULT_MODEL,
        source="pocket",
        architecture="mamba",
        layers=[LayerDescription(layer=i, mixer=Mixer.S6, methods=list(Method)) for i in range(2)],
        hidden_size=64,
        channels=128,
        d_state=16,
        dt_rank=4,
        vocab_size=38,
        parameters=67904,
        stored_bytes=271616,
        dtype=Dtype.FLOAT32,
        max_tokens=4096,
        max_row_tokens=131072,
        default_layers=[0, 1],
        resident_on=[],
    ),
    "methods": MethodList(methods=methods()[:1]),
    "health": Health(version="0.1.0"),
    "readiness": Readiness(workers=1),
}

_DETAILS = {
    ProblemType.INVALID_REQUEST: "`pocket/recall-mamba` has no layer 9: "
    "it has 2 layers, name one of 0 to 1.",
    ProblemType.MALFORMED_JSON: "The body cannot be read as JSON: it is empty.",
    ProblemType.REQUEST_TIMEOUT: "The body was not complete after 30 seconds. "
    "Send all of it at once.",
    ProblemType.BODY_TOO_LARGE: "A body may have at most 4194304 bytes. "
    "Send fewer or shorter texts a job.",
    ProblemType.UNSUPPORTED_MEDIA_TYPE: "The body came as `text/plain`. "
    "Send JSON with the header `Content-Type: application/json`.",
    ProblemType.UNAUTHENTICATED: "This service asks for a key. Send it in the header "
    "`Authorization: Bearer msk_...`; `mambascope keys create` makes one.",
    ProblemType.NOT_FOUND: "There is no job `01KA`. Is the id complete?",
    ProblemType.GONE: f"Job `{JOB_ID}` is there no more: it was deleted. Send its request again.",
    ProblemType.ALREADY_ENDED: "The job has succeeded.",
    ProblemType.KEY_REUSED: "This `Idempotency-Key` came with another body in the last 24 hours. "
    "Use a new one for each request, and the same only to send the same request again.",
    ProblemType.RATE_LIMIT: "This key may make 60 requests in a minute. Ask again in 12 seconds.",
    ProblemType.QUEUE_LIMIT: "This key may have 10 jobs waiting, and has. "
    "Wait until some have started.",
    ProblemType.TOKEN_LIMIT: "The job has 900 tokens; of the 100000 that this key may spend in "
    "a day 250 are left until midnight UTC.",
    ProblemType.NOT_FINISHED: f"The job is running. Ask {_JOB_PATH} until it has ended.",
    ProblemType.JOB_FAILED: "The model's files are not usable: "
    "The config.json of `mine` is not usable: the file is missing.",
    ProblemType.MODEL_INVALID: "The config.json of `mine` is not usable: the file is missing.",
    ProblemType.PRECONDITION_FAILED: "The bytes here never change, and are not those that "
    "`If-Match` names. Send the request without it to get them.",
    ProblemType.RANGE_NOT_SATISFIABLE: "There are 48213 bytes here, and `Range` asks for others: "
    "ask for some below 48213.",
    ProblemType.UNAVAILABLE: "The job store does not answer. Ask again in 5 seconds.",
}


def _problem_example(kind: ProblemType) -> Problem:
    detail = _DETAILS[kind]
    is_request = kind is ProblemType.INVALID_REQUEST
    errors = [FieldError(pointer="/layers/0", detail=detail)] if is_request else []
    return Problem.of(kind, detail, errors)


def examples() -> dict[str, BaseModel]:
    """Every example, by the name that a route gives it."""
    return _ANSWERS | {kind.slug: _problem_example(kind) for kind in _DETAILS}
