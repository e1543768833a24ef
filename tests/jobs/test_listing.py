"""Pages of an owner's jobs."""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jobs import Terms
from jobs.listing import BadCursor, Wanted
from schemas.names import Departure, Status
from tests.jobs.support import REQUEST

MINE = Terms(owner="me")
OTHER = REQUEST.model_copy(update={"models": ["other"]})


def pages(jobs, wanted, limit):
    cursor, found = None, []
    while True:
        page = jobs.listing.page(wanted, cursor, limit)
        found += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_newest_first_page_by_page_and_each_once(jobs):
    ids = [jobs.submit(REQUEST, MINE).id for _ in range(7)]
    jobs.submit(REQUEST, Terms(owner="you"))
    for limit in (1, 3, 7, 100):
        assert pages(jobs, Wanted("me"), limit) == ids[::-1]
    page = jobs.listing.page(Wanted("me"), None, 7)
    assert page.next_cursor is None, "an empty page is not announced"


def test_what_comes_and_goes_meanwhile_moves_nothing(jobs):
    ids = [jobs.submit(REQUEST, MINE).id for _ in range(4)]
    first = jobs.listing.page(Wanted("me"), None, 2)
    jobs.submit(REQUEST, MINE)
    jobs.remove(ids[2], Departure.DELETED)
    second = jobs.listing.page(Wanted("me"), first.next_cursor, 2)
    assert [job.id for job in second.jobs] == [ids[1], ids[0]]


def test_a_summary_is_the_job_without_its_request(jobs):
    job = jobs.submit(REQUEST, MINE).job
    [shown] = jobs.listing.page(Wanted("me"), None, 9).jobs
    assert shown.model_dump(exclude={"models", "texts", "metadata"}) == job.model_dump(
        exclude={"request", "deliveries"}
    )
    assert (shown.models, shown.texts) == (REQUEST.models, 1)
    assert shown.metadata == REQUEST.metadata


def test_filters(jobs):
    first, second = jobs.submit(REQUEST, MINE).id, jobs.submit(OTHER, MINE).id
    jobs.cancel(first)
    assert pages(jobs, Wanted("me", status=Status.CANCELLED), 5) == [first]
    assert pages(jobs, Wanted("me", status=Status.QUEUED), 5) == [second]
    assert pages(jobs, Wanted("me", model="other"), 5) == [second]
    assert pages(jobs, Wanted("me", Status.CANCELLED, "other"), 5) == []


def test_a_rare_kind_is_found_over_several_short_answers(jobs, monkeypatch):
    monkeypatch.setattr("jobs.listing._LOOKS", 4)
    monkeypatch.setattr("jobs.listing._BATCH", 2)
    rare = jobs.submit(OTHER, MINE).id
    for _ in range(9):
        jobs.submit(REQUEST, MINE)
    page = jobs.listing.page(Wanted("me", model="other"), None, 5)
    assert page.jobs == []
    assert page.next_cursor is not None
    assert pages(jobs, Wanted("me", model="other"), 5) == [rare]


@given(st.text())
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cursors_that_no_page_has_given(jobs, cursor):
    with pytest.raises(BadCursor):
        jobs.listing.page(Wanted("me"), cursor, 5)
