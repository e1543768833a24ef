"""Progress as it reaches the job's record."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from jobs import Attempt, Jobs, StaleAttempt
from jobs.costs import Cost
from jobs.keys import Keys
from jobs.store import JobStore
from schemas.job import Progress
from schemas.names import Stage
from schemas.request import JobRequest
from schemas.settings import Settings
from tests.tiny_models import save_mamba
from tests.workers.bench import TEXTS, Bench
from tests.workers.conftest import until
from workers.forecasting.forecast import Phase
from workers.forecasting.gallery import Gallery
from workers.kernels import pulse
from workers.progress import Company, Report
from workers.run import run, start
from workers.shared_pass import SharedPass


class Heard(JobStore):
    """A store that remembers what it was told of each job."""

    told: dict[str, list[Progress]]

    def progress(self, attempt: Attempt, progress: Progress) -> None:
        super().progress(attempt, progress)
        self.told.setdefault(attempt.job_id, []).append(progress)


@dataclass
class Listening:
    """A bench whose every word is heard."""

    bench: Bench
    store: Heard

    @classmethod
    def to(cls, bench: Bench) -> "Listening":
        store = Heard(bench.jobs.redis, bench.runtime.settings)
        store.told = {}
        jobs = replace(bench.jobs, store=store)
        return cls(Bench(replace(bench.runtime, jobs=jobs), jobs), store)

    def hear(self, **fields: object) -> list[Progress]:
        attempt = self.bench.start(**fields)
        self.bench.advance(attempt)
        return self.store.told[attempt.job_id]


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """With a model of random weights."""
    save_mamba(tmp_path / "models" / "tiny", bias=True)
    return settings.model_copy(update={"model_dir": tmp_path / "models", "device": "cpu"})


@pytest.fixture(autouse=True)
def every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out for being told too soon."""
    monkeypatch.setattr("workers.progress.INTERVAL", 0.0)


def started(jobs: Jobs, **fields: object) -> Attempt:
    request = JobRequest.model_validate({"texts": ["a"], **fields})
    attempt = jobs.store.start(jobs.store.create(request), "w")
    assert attempt is not None
    return attempt


def told(jobs: Jobs, attempt: Attempt) -> Progress:
    job = jobs.store.get(attempt.job_id)
    assert job is not None
    return job.progress


def test_a_real_job_rises_to_its_end_and_counts_right(bench: Bench) -> None:
    heard = Listening.to(bench).hear(layers="all")
    fractions = [each.fraction for each in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] > 0.5
    last = heard[-1]
    assert (last.texts_done, last.texts) == (len(TEXTS), len(TEXTS))
    assert last.layers_done == last.layers
    assert last.layers
    counts = [each.layers_done for each in heard if each.layers_done is not None]
    assert set(counts) == set(range(last.layers + 1))
    assert heard[0].stage is Stage.LOADING
    assert any("text 3 of 3, layer 1" in each.detail for each in heard)


def test_the_rest_is_told_once_the_request_is_known(bench: Bench) -> None:
    heard = Listening.to(bench).hear(figures=False)
    assert heard[0].remaining_seconds is None
    known = [each.remaining_seconds for each in heard if each.stage is not Stage.LOADING]
    assert None not in known


@pytest.mark.parametrize(
    "fields",
    [
        {"attention": None},
        {"neurons": None, "figures": False},
        {"tensors": True, "attention": {"methods": ["contribution"], "rows": "all"}},
        {"perturbation": {"sets": [{"found_by": "variance"}], "random_sets": 2}},
    ],
)
def test_every_kind_of_job_is_counted(bench: Bench, fields: dict[str, object]) -> None:
    last = Listening.to(bench).hear(**fields)[-1]
    assert (last.texts_done, last.layers_done) == (last.texts, last.layers)


def test_costs_are_learnt_of_a_job_that_took_its_time(
    bench: Bench, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.forecasting.planning._LEAST_SECONDS", 0.0)
    bench.run(figures=False)
    names = {name.decode() for name in bench.jobs.redis.hkeys(Keys(settings.key_prefix).costs)}
    phases = {name.rpartition("|")[2] for name in names}
    assert {Phase.TRACING, Phase.READING, Phase.STORING} <= phases
    assert {name.split("|")[1] for name in names} == {"tiny", ""}


def test_short_phases_teach_nothing(bench: Bench, settings: Settings) -> None:
    bench.run(texts=["w1"], attention=None, neurons=None, figures=False)
    learnt = bench.jobs.redis.hkeys(Keys(settings.key_prefix).costs)
    assert not [name for name in learnt if name.endswith(b"storing")]


def test_jobs_that_run_together_are_all_told_of(bench: Bench) -> None:
    listening = Listening.to(bench)
    attempts = [listening.bench.start(figures=False) for _ in range(3)]
    running = start(listening.bench.runtime, attempts)
    next(running[0])
    waiting = listening.store.told[attempts[2].job_id][-1]
    assert waiting.detail.startswith("waiting")
    assert waiting.remaining_seconds is not None
    for steps in (*running[1:], *running):
        for _ in steps:
            pass
    for attempt in attempts:
        heard = listening.store.told[attempt.job_id]
        assert heard[-1].texts_done == len(TEXTS)
        assert [each.fraction for each in heard] == sorted(each.fraction for each in heard)


def test_a_job_waits_for_those_before_it(jobs: Jobs) -> None:
    company = Company()
    reports = [Report(jobs.store, started(jobs), company) for _ in range(2)]
    for report in reports:
        report.forecast.expect({("m", Phase.READING): 10.0, ("", Phase.STORING): 1.0}, {})
    assert list(company.rests().values()) == pytest.approx([21.0, 22.0])
    reports[0].close()
    assert company.rests() == {reports[1]: pytest.approx(11.0)}


def test_jobs_that_run_together_share_what_draws(jobs: Jobs) -> None:
    company = Company()
    reports = [Report(jobs.store, started(jobs), company) for _ in range(3)]
    drawn = Gallery(figures=100, seconds=10.0)
    for report in reports:
        foretold = {("m", Phase.READING): 5.0, ("", Phase.DRAWING): 10.0, ("", Phase.BESIDE): 10.0}
        costs = dict.fromkeys(foretold, Cost(1.0, 60.0))
        report.forecast.expect(foretold, costs, drawn)
    # 15 seconds of computing draw the figures of the first and half of those of the second.
    assert list(company.rests().values()) == pytest.approx([15.0, 20.0, 30.0])


def test_the_first_of_several_jobs_is_foretold_to_run_a_model_for_all(
    bench: Bench, settings: Settings
) -> None:
    company = Company()
    reports = [Report(bench.jobs.store, bench.start(figures=False), company) for _ in range(3)]
    assert settings.model_dir is not None
    place = settings.model_dir / "tiny"
    away = place.rename(place.with_name("on its way"))
    company.foretell(bench.runtime)
    assert not any(report.is_known for report in reports)
    away.rename(place)
    for _ in range(2):
        company.foretell(bench.runtime)
        alone = reports[1].plan(bench.runtime).efforts["tiny", Phase.TRACING]
        foretold = [report.forecast["tiny", Phase.TRACING].foretold for report in reports]
        assert foretold == pytest.approx([3 * alone, 0.0, 0.0])


def test_what_is_drawn_is_heard_while_the_job_computes(bench: Bench) -> None:
    attempt = bench.start()
    report = Report(bench.jobs.store, attempt)
    steps = run(bench.runtime, attempt, SharedPass([attempt], bench.runtime.settings), report)
    next(steps)
    beside, whole = report.forecast["", Phase.BESIDE], report.forecast.gallery.seconds

    def all_heard() -> bool:
        report.tell("still computing")
        return beside.done == pytest.approx(whole)

    until(all_heard, "every figure is heard of")
    assert report.hear is not None
    assert beside.spent > 0
    assert list(steps) == []
    assert report.forecast["", Phase.DRAWING].foretold == 0.0
    assert report.hear is None


def test_of_all_jobs_that_run_together_it_is_heard_what_was_drawn(jobs: Jobs) -> None:
    company = Company()
    active, other = (Report(jobs.store, started(jobs), company) for _ in range(2))
    heard: list[str] = []
    active.hear, other.hear = (lambda: heard.append("active")), (lambda: heard.append("other"))
    active.tell("at work")
    assert heard == ["active", "other"]


def test_a_lost_companion_does_not_stop_the_others(jobs: Jobs) -> None:
    company = Company()
    active, lost = (Report(jobs.store, started(jobs), company) for _ in range(2))
    jobs.store.give_up(lost._attempt.job_id, lost._attempt.token, "gone")
    active.tell("at work")
    assert told(jobs, active._attempt).detail == "at work"


def test_a_sign_of_life_learns_that_the_attempt_is_stale(jobs: Jobs) -> None:
    attempt = started(jobs)
    report = Report(jobs.store, attempt)
    with report.doing(Phase.READING, "m"):
        jobs.store.give_up(attempt.job_id, attempt.token, "gone")
        with pytest.raises(StaleAttempt):
            pulse.beat()


def test_seconds_add_up_by_stage_also_when_a_stage_fails(jobs: Jobs) -> None:
    report = Report(jobs.store, started(jobs))
    with report.doing(Phase.TRACING, "m"):
        pass
    first = report.seconds[Stage.TRACING]
    with pytest.raises(ValueError, match="no"), report.doing(Phase.TRACING, "m"):
        raise ValueError("no")
    assert report.seconds[Stage.TRACING] > first
    assert list(report.seconds) == [Stage.TRACING]


def test_a_new_stage_is_told_at_once_and_its_details_now_and_then(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.progress.INTERVAL", 3600.0)
    attempt = started(jobs)
    report = Report(jobs.store, attempt)
    with report.doing(Phase.LOADING, "m", "a model"):
        pass
    with report.doing(Phase.TRACING, "m", "first"):
        report.reach(0.5, "second")
    assert told(jobs, attempt).stage is Stage.TRACING
    assert told(jobs, attempt).detail == "first"
