from datetime import UTC, datetime

import pytest

from jobs.scripts import COMMON


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2000, 2, 29, 23, 59, 59, 999000, tzinfo=UTC),
        datetime(2023, 12, 31, 0, 0, 0, 1000, tzinfo=UTC),
        datetime(2024, 2, 29, 12, 34, 56, 789000, tzinfo=UTC),
        datetime(2024, 3, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2100, 2, 28, 23, tzinfo=UTC),
        datetime(2100, 3, 1, tzinfo=UTC),
    ],
)
def test_times_are_written_as_the_calendar_has_them(jobs, moment):
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    ms = since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
    written = jobs.redis.eval(f"{COMMON} return iso(tonumber(ARGV[1]))", 0, ms).decode()
    assert written.endswith("Z")
    assert datetime.fromisoformat(written) == moment
