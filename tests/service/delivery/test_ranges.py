import base64
import hashlib

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import Jobs
from service.delivery.ranges import RangeNotSatisfiable, requested_span
from tests.service.conftest import FIGURE, finished, problem_of

SIZE = len(FIGURE)


@pytest.fixture
def path(jobs: Jobs) -> str:
    return f"/v1/jobs/{finished(jobs)}/artifacts/sheet.png"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-499", 0, 500),
        ("bytes=500-", 500, SIZE),
        ("bytes=-500", SIZE - 500, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
        (f"bytes=7-{SIZE * 2}", 7, SIZE),
        (f"bytes=7-{'9' * 3000}", 7, SIZE),
        ("BYTES=0-4", 0, 5),
        ("bytes= 0-4\t,", 0, 5),
        ("bytes=,0-4,", 0, 5),
        ("bytes=000-0004", 0, 5),
        (f"bytes={SIZE}-,3-4", 3, 5),
    ],
)
def test_a_range_is_the_slice(
    client: httpx.Client, path: str, asked: str, start: int, stop: int
) -> None:
    response = client.get(path, headers={"Range": asked})
    assert response.status_code == 206
    assert response.content == FIGURE[start:stop]
    assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert response.headers["content-length"] == str(stop - start)
    assert response.headers["content-type"] == "image/png"
    whole = client.get(path)
    for name in ("etag", "cache-control", "accept-ranges", "repr-digest", "content-disposition"):
        assert response.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=5-4", "bytes=", "bytes=-", "bytes=a-b", "bytes", "items=0-4", "bytes=0-4;x"),
        *("0-4", "bytes=0 - 4", "bytes=+0-4", "bytes=0-4,x", "bytes=٣-٤", "bytes==0-4"),
        *("bytes=0-4,10-14", "bytes=" + "0-0," * 2000, "bytes=" + ",".join(["0-0"] * 100)),
    ],
)
def test_what_is_malformed_or_several_gets_the_whole(
    client: httpx.Client, path: str, asked: str
) -> None:
    response = client.get(path, headers={"Range": asked.encode()})
    assert response.status_code == 200
    assert response.content == FIGURE
    assert "content-range" not in response.headers


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={'9' * 5000}-", "bytes=-0"])
def test_bytes_that_are_not_there_are_told_with_how_many_there_are(
    client: httpx.Client, path: str, asked: str
) -> None:
    response = client.get(path, headers={"Range": asked})
    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{SIZE}"
    problem = problem_of(response, "range-not-satisfiable")
    [error] = problem["errors"]  # type: ignore[misc]
    assert error["parameter"] == "Range"
    assert str(SIZE) in error["detail"]


def test_two_range_headers_are_ignored(client: httpx.Client, path: str) -> None:
    response = client.get(path, headers=[("Range", "bytes=0-4"), ("Range", "bytes=5-9")])
    assert response.status_code == 200


def test_a_download_goes_on_only_with_the_same_bytes(client: httpx.Client, path: str) -> None:
    tag = client.get(path).headers["etag"]
    asked = {"Range": "bytes=10-"}
    assert client.get(path, headers=asked | {"If-Range": tag}).content == FIGURE[10:]
    for other in ('"other"', f"W/{tag}", "Wed, 21 Oct 2026 07:28:00 GMT", ""):
        response = client.get(path, headers=asked | {"If-Range": other})
        assert response.status_code == 200
        assert response.content == FIGURE


def test_preconditions_come_before_ranges(client: httpx.Client, path: str) -> None:
    tag = client.get(path).headers["etag"]
    asked = {"Range": f"bytes={SIZE}-"}
    assert client.get(path, headers=asked | {"If-None-Match": tag}).status_code == 304
    refused = client.get(path, headers=asked | {"If-Match": f'"other", W/{tag}'})
    assert refused.status_code == 412
    [error] = problem_of(refused, "precondition-failed")["errors"]  # type: ignore[misc]
    assert error["parameter"] == "If-Match"
    for form in (tag, f'"other",{tag}', "*"):
        assert client.get(path, headers={"If-Match": form}).status_code == 200


def test_head_ignores_ranges_and_tells_what_get_would(client: httpx.Client, path: str) -> None:
    got, head = client.get(path), client.head(path, headers={"Range": "bytes=0-4"})
    assert head.status_code == 200
    assert head.content == b""
    changing = {"x-request-id", "date"}
    assert {k: v for k, v in head.headers.items() if k not in changing} == {
        k: v for k, v in got.headers.items() if k not in changing
    }


def test_digest_and_name(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    digest = base64.b64encode(hashlib.sha256(FIGURE).digest()).decode()
    assert headers["repr-digest"] == f"sha-256=:{digest}:"
    assert headers["content-disposition"] == 'inline; filename="sheet.png"'
    assert headers["accept-ranges"] == "bytes"


def test_of_no_bytes_there_is_no_part() -> None:
    for asked in ("bytes=0-", "bytes=-5", "bytes=0-0"):
        assert requested_span([asked], 0) is None


SPECS = st.lists(
    st.one_of(
        st.builds("{}-{}".format, st.integers(0, 40), st.one_of(st.just(""), st.integers(0, 40))),
        st.builds("-{}".format, st.integers(0, 40)),
        st.text("0123456789-,; \tbytes=", max_size=12),
    ),
    max_size=3,
)
HEADERS = st.one_of(SPECS.map(lambda specs: "bytes=" + ",".join(specs)), st.text(max_size=30))


@given(header=HEADERS, size=st.integers(0, 30))
def test_whatever_is_asked_a_span_lies_within(header: str, size: int) -> None:
    try:
        span = requested_span([header], size)
    except RangeNotSatisfiable:
        return
    if span is not None:
        assert 0 <= span.start < span.stop <= size
        assert span.step == 1


HTTP_VALUES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.one_of(HEADERS.filter(str.isascii).filter(str.isprintable), HTTP_VALUES))
def test_no_range_header_is_an_error_of_the_service(
    client: httpx.Client, path: str, header: str
) -> None:
    response = client.get(path, headers={"Range": header.strip().encode("latin-1")})
    assert response.status_code in (200, 206, 416)
    if response.status_code == 206:
        places, _, size = response.headers["content-range"].removeprefix("bytes ").partition("/")
        first, last = map(int, places.split("-"))
        assert int(size) == SIZE
        assert response.content == FIGURE[first : last + 1]
    elif response.status_code == 200:
        assert response.content == FIGURE
