"""Interrupts that reach code which knows nothing of them."""

import signal

import pytest
from pydantic import BaseModel, field_serializer

from workers.interrupts import Interrupts, JobInterrupt, TimeLimitReached, Withdrawn


class Serialised(BaseModel):
    """Raises a signal while pydantic's compiled code has it in hand."""

    signal: int

    @field_serializer("signal")
    def raise_it(self, value: int) -> int:
        signal.raise_signal(value)
        return value


@pytest.mark.parametrize(
    ("number", "interrupt"),
    [(signal.SIGALRM, TimeLimitReached), (signal.SIGUSR1, Withdrawn)],
)
def test_an_interrupt_that_a_library_wraps_is_still_that_interrupt(
    interrupts: Interrupts, number: signal.Signals, interrupt: type[JobInterrupt]
) -> None:
    with pytest.raises(interrupt) as caught, interrupts.limit(60):
        Serialised(signal=number).model_dump_json()
    assert isinstance(caught.value.__cause__, Exception)


def test_an_error_of_the_job_stays_its_own(interrupts: Interrupts) -> None:
    with pytest.raises(Withdrawn), interrupts.limit(60):
        signal.raise_signal(signal.SIGUSR1)
    with pytest.raises(ValueError, match="mine"), interrupts.limit(60):
        raise ValueError("mine")


def test_outside_a_job_nothing_is_raised(interrupts: Interrupts) -> None:
    with interrupts.limit(60):
        pass
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGALRM)
