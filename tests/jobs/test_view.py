import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from jobs.view import COUNTS, FIELDS, has_ended, job_from, job_json
from schemas.job import Delivery, Progress
from schemas.names import Stage, Status
from schemas.problem import Problem, ProblemType
from schemas.request import JobRequest

ID = "01KAQ3V9Q0Z7X3M5B8F2N6T4RC"
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
REQUESTS = st.builds(
    JobRequest,
    texts=st.lists(TEXTS.map(lambda text: f"a{text}"), min_size=1, max_size=3),
    metadata=st.dictionaries(TEXTS, TEXTS, max_size=2),
)
PROBLEMS = st.builds(Problem.of, st.sampled_from(ProblemType), TEXTS)
COUNTED = st.builds(
    Progress,
    texts_done=st.none() | st.integers(0, 10**6),
    layers=st.none() | st.integers(0, 10**6),
    remaining_seconds=st.none() | st.floats(0, 1e6),
)
DELIVERIES = st.builds(
    Delivery,
    attempt=st.integers(1, 9),
    at=MOMENTS.map(datetime.fromisoformat),
    status=st.none() | st.integers(100, 599),
    error=st.none() | TEXTS,
).map(lambda it: f"[{it.model_dump_json()}]")
RECORDS = st.fixed_dictionaries(
    {
        "status": st.sampled_from(Status),
        "created_at": MOMENTS,
        "started_at": st.just("") | MOMENTS,
        "finished_at": st.just("") | MOMENTS,
        # Lua writes 0 and 1, the worker Python's repr.
        "fraction": st.sampled_from("01") | st.floats(0, 1).map(repr),
        "stage": st.just("") | st.sampled_from(Stage),
        "detail": st.just("") | TEXTS,
        "attempts": st.integers(0, 10**6).map(str),
        "request": REQUESTS.map(JobRequest.model_dump_json),
        "expires_at": st.just("") | MOMENTS,
        "counts": st.just("") | COUNTED.map(lambda it: it.model_dump_json(include=COUNTS)),
        "reused_from": st.just("") | st.just(ID),
        "pinned": st.sampled_from(["", "0", "1"]),
        "deliveries": st.just("") | DELIVERIES,
        "error": st.just("") | PROBLEMS.map(Problem.model_dump_json),
    }
)
RANKS = st.none() | st.integers(0, 10**6)


def stored(record: dict[str, str]) -> list[bytes | None]:
    """A record as the store answers it; a field that was never set is None."""
    return [record[name].encode() if name in record else None for name in FIELDS]


@given(RECORDS, RANKS)
def test_the_json_is_that_of_the_model_byte_by_byte(
    record: dict[str, str], rank: int | None
) -> None:
    values = stored(record)
    job = job_from(ID, values, rank)
    assert job is not None
    assert job_json(ID, values, rank) == job.model_dump_json().encode()
    assert has_ended(values) == job.status.terminal


@given(RECORDS)
def test_fields_that_were_never_set_are_as_empty_ones(record: dict[str, str]) -> None:
    bare = {name: value for name, value in record.items() if value}
    assert job_json(ID, stored(bare), None) == job_json(ID, stored(record), None)


def test_there_is_no_job_without_a_record() -> None:
    values: list[bytes | None] = [None] * len(FIELDS)
    assert job_json(ID, values, None) is None
    assert job_from(ID, values, None) is None


def test_a_request_of_another_version_is_shown_as_it_was_accepted() -> None:
    record = dict.fromkeys(FIELDS, "") | {
        "status": "queued",
        "created_at": "2026-01-01T00:00:00.000Z",
        "fraction": "0",
        "attempts": "0",
        "request": '{"texts":["a"],"gone":1}',
    }
    body = job_json(ID, stored(record), 0)
    assert body is not None
    assert json.loads(body)["request"] == {"texts": ["a"], "gone": 1}
