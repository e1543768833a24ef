"""Jobs that share a pass: each gets what it would get alone, and no other's failure."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from catalogue.locate import locate
from catalogue.passing import captured_bytes
from catalogue.selection import select
from jobs import Attempt
from schemas.problem import ProblemError, ProblemType
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.tiny_models import save_mamba
from workers import shared_pass
from workers.models.loading import LoadedModel, load
from workers.shared_pass import SharedPass
from workers.traces import Outcome, TextTrace

ROOM = 1 << 30
TEXTS = (["w1 w2 w3"], ["w4 w5", "w6 w7 w8 w9"], ["w1"])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    save_mamba(tmp_path / "tiny")
    return Settings(model_dir=tmp_path, device="cpu", data_dir=tmp_path / "data")


@pytest.fixture
def loaded(settings: Settings) -> LoadedModel:
    return load(locate("tiny", settings), settings)


def attempts(texts: Sequence[list[str]] = TEXTS, **fields: Any) -> list[Attempt]:
    return [
        Attempt(
            f"job-{index}",
            "token",
            1,
            JobRequest.model_validate({"models": ["tiny"], "texts": given} | fields),
        )
        for index, given in enumerate(texts)
    ]


def outcomes(
    shared: SharedPass, attempt: Attempt, loaded: LoadedModel, room: int = ROOM
) -> Iterator[tuple[int, Outcome]]:
    return shared.outcomes(attempt, loaded, select(attempt.request, loaded.description), room)


def count_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted: list[int] = []
    real = shared_pass.trace_each

    def counting(loaded: LoadedModel, requests: list[Any], *rest: Any, **more: Any) -> Any:
        counted.append(len(requests))
        return real(loaded, requests, *rest, **more)

    monkeypatch.setattr(shared_pass, "trace_each", counting)
    return counted


def test_one_pass_serves_all_and_equals_running_alone(
    loaded: LoadedModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = count_passes(monkeypatch)
    together = attempts()
    shared = SharedPass(together, settings)
    for attempt in together:
        found = dict(outcomes(shared, attempt, loaded))
        assert sorted(found) == list(range(len(attempt.request.texts)))
        alone = dict(outcomes(SharedPass([attempt], settings), attempt, loaded))
        for text, ours in found.items():
            theirs = alone[text]
            assert isinstance(ours, TextTrace)
            assert isinstance(theirs, TextTrace)
            assert (ours.ids, ours.target) == (theirs.ids, theirs.target)
            # Batches of another shape sum in another order.
            close = {"rtol": 0, "atol": 1e-5 * float(theirs.logits.abs().max())}
            torch.testing.assert_close(ours.logits, theirs.logits, **close)
            for layer, mixer in ours.mixers.items():
                expected = theirs.mixers[layer].capture.output
                close = {"rtol": 0, "atol": 1e-5 * float(expected.abs().max())}
                torch.testing.assert_close(mixer.capture.output, expected, **close)
    assert passes == [4, 1, 2, 1]


def test_a_job_that_would_fail_is_left_out_and_fails_alone(
    loaded: LoadedModel, settings: Settings
) -> None:
    bad = attempts(target={"token": "unheard"})[0]
    good = [Attempt("good", "token", 1, attempts()[1].request)]
    shared = SharedPass([bad, *good], settings)
    assert len(dict(outcomes(shared, good[0], loaded))) == 2
    with pytest.raises(ValueError, match="vocabulary"):
        list(outcomes(shared, bad, loaded))


def test_a_text_that_cannot_be_traced_is_its_own_jobs_failure(
    loaded: LoadedModel, settings: Settings
) -> None:
    loaded.model.get_input_embeddings().weight.data[3] = float("nan")
    together = attempts()
    shared = SharedPass(together, settings)
    kinds = []
    for attempt in together:
        for _, outcome in outcomes(shared, attempt, loaded):
            kinds.append(outcome.kind if isinstance(outcome, ProblemError) else None)
    assert kinds == [ProblemType.NOT_FINITE, None, None, None]


def test_when_the_pass_itself_fails_each_job_runs_alone(
    loaded: LoadedModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shared_pass.trace_each

    def too_large(loaded: LoadedModel, requests: list[Any], *rest: Any, **more: Any) -> Any:
        if len(requests) > 2:
            raise MemoryError
        return real(loaded, requests, *rest, **more)

    monkeypatch.setattr(shared_pass, "trace_each", too_large)
    together = attempts()
    shared = SharedPass(together, settings)
    counts = [len(dict(outcomes(shared, attempt, loaded))) for attempt in together]
    assert counts == [1, 2, 1]


def test_jobs_whose_captures_do_not_fit_together_run_alone(
    loaded: LoadedModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = attempts()
    chosen = select(together[0].request, loaded.description)
    # The texts have ten tokens.
    exact = 10 * captured_bytes(loaded.description, chosen)
    for room, passes in ((exact, [4]), (exact - 1, [1, 2, 1])):
        counted = count_passes(monkeypatch)
        shared = SharedPass(together, settings)
        found = [dict(outcomes(shared, attempt, loaded, room)) for attempt in together]
        assert [len(texts) for texts in found] == [1, 2, 1]
        assert counted == passes
        monkeypatch.undo()
