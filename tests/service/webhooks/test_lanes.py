"""Whose turn it is."""

from jobs.outbox import Due, Held
from service.webhooks.lanes import Lanes


def due(name: str) -> Due:
    return Due(name, 1, f"https://{name}")


def filled(**counts: int) -> Lanes:
    lanes = Lanes()
    for host, count in counts.items():
        for nth in range(count):
            lanes.put(host, due(f"{host}{nth}"))
    return lanes


def taken(lanes: Lanes) -> list[str]:
    found = []
    while one := lanes.take():
        found.append(one.job_id)
    return found


def test_hosts_take_turns_and_none_has_more_than_its_share() -> None:
    lanes = filled(a=20, b=2, c=1)
    assert taken(lanes) == ["a0", "b0", "c0", "a1", "b1", *(f"a{nth}" for nth in range(2, 8))]
    lanes.done("a3")
    assert taken(lanes) == ["a8"]


def test_a_host_that_failed_has_one_delivery_at_a_time_until_it_answers() -> None:
    lanes = filled(a=20)
    first = taken(lanes)
    for job_id in first:
        lanes.done(job_id, failed=True)
    assert taken(lanes) == ["a8"]
    lanes.done("a8", failed=True)
    assert taken(lanes) == ["a9"]
    lanes.done("a9", failed=False)
    assert len(taken(lanes)) == 8


def test_nothing_is_kept_of_a_host_that_is_done() -> None:
    lanes = filled(a=1)
    assert taken(lanes) == ["a0"]
    lanes.done("a0", failed=True)
    assert vars(lanes) == vars(Lanes())


def test_a_job_is_known_while_it_waits_and_while_it_is_under_way() -> None:
    lanes = filled(a=1)
    assert lanes.renew(Held("a0", 7))
    assert lanes.waiting() == [Due("a0", 7, "https://a0")]
    assert lanes.take() == Due("a0", 7, "https://a0")
    assert lanes.renew(Held("a0", 8))
    assert lanes.waiting() == []
    lanes.done("a0")
    assert not lanes.renew(Held("a0", 9))


def test_what_has_no_room_is_left_to_be_found_again() -> None:
    lanes = filled(a=1200, b=1)
    assert len(lanes.waiting()) == 1001
    assert not lanes.renew(Held("a1100", 2))
    assert lanes.renew(Held("b0", 2))
