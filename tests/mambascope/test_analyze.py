"""`mambascope analyze` as users run it: against a real service, and with one of its own."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from mambascope.analyze import run
from mambascope.stack import Stack
from schemas.problem import FieldError, Problem, ProblemType
from schemas.result import ResultDocument
from tests.mambascope.terminal import shown_until_closed
from tests.mambascope.test_cli import family
from tests.workers.conftest import ROOT, gone, until

PROMPT = "apple 3 river 7 stone 1 river"
Run = Callable[..., subprocess.CompletedProcess[str]]


def command(*typed: str | Path, module: str = "mambascope") -> list[str]:
    return [sys.executable, "-m", module, "analyze", *map(str, typed)]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "COLUMNS": "80"}


@pytest.fixture
def analyze(tmp_path: Path) -> Run:
    """Run the command in an empty directory, piped."""

    def run(
        *typed: str | Path, module: str = "mambascope", given: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*typed, module=module),
            cwd=tmp_path,
            env=environment(tmp_path) | more,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def do(tmp_path: Path) -> Callable[..., list[str]]:
    """The flags of a job that a worker of the tests does as told."""

    def flags(what: str) -> list[str]:
        file = tmp_path / "request.json"
        file.write_text(json.dumps({"texts": ["a"], "metadata": {"do": what}, "reuse": False}))
        return ["--request", str(file)]

    return flags


def test_two_models_read_two_texts(stack: Stack, analyze: Run, tmp_path: Path) -> None:
    said = analyze(
        *("--models", "pocket/recall-mamba", "pocket/recall-gpt2", "--texts", "-"),
        *("--layers", "0", "1", "--attention_layers", "0", "1", "--enable_attention"),
        *("--attention_methods", "attention_weighted", "contribution"),
        *("--tensors", "--output", "out", "--url", stack.url),
        given=f"{PROMPT}\n\nstone 1 apple 3 stone\n",
    )
    assert said.returncode == 0, said.stderr
    assert "\x1b" not in said.stdout + said.stderr
    lines = [" ".join(line.split()) for line in said.stdout.splitlines()]
    assert max(map(len, said.stdout.splitlines())) <= 80
    for model in ("pocket/recall-mamba (mamba", "pocket/recall-gpt2 (gpt2"):
        assert f"{model}, float32 on cpu)" in lines
    assert lines.count("2 texts, 12 tokens; layers 0, 1") == 2
    assert (
        sum(line.startswith(f'{PROMPT} 7 "7" 0.99') for line in lines)
        + sum(line.startswith(f'{PROMPT} 7 "7" 1.0') for line in lines)
        == 2
    ), "both models know the answer"
    # Each text's answer is another token; both models' last layer reads the two.
    assert sum(line.startswith('contribution "7" (1), "1" (1)') for line in lines) == 2
    assert sum("mixer 128 " in line for line in lines) == 2, "neurons of both layers"

    saved = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    figures = {path.name for path in (tmp_path / "out" / "images").iterdir()}
    assert saved - figures == {"result.json", "tensors.safetensors"}
    document = ResultDocument.model_validate_json((tmp_path / "out" / "result.json").read_bytes())
    named = [name for result in document.results for name in result.artifacts]
    assert named
    assert figures.issuperset(named)
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in (tmp_path / "out/images").iterdir())
    assert lines[-1] == f"Saved result.json, {len(figures)} figures and tensors.safetensors to out/"
    assert said.stderr.splitlines()[0] == "queued"
    assert "succeeded" in said.stderr.splitlines()


def test_json_is_the_document_and_nothing_else(stack: Stack, analyze: Run, tmp_path: Path) -> None:
    said = analyze(
        *("--text", PROMPT, "--json", "--no-figures", "--no-enable_attention", "--no_neurons"),
        MAMBASCOPE_URL=stack.url,
    )
    assert said.returncode == 0, said.stderr
    saved = (tmp_path / "mambascope-output" / "result.json").read_text()
    assert said.stdout == saved + "\n"
    document = ResultDocument.model_validate_json(said.stdout)
    assert not document.results[0].has_attention_analysis
    assert document.neuron_analysis == []
    assert said.stderr.endswith("Saved result.json to mambascope-output/\n")


def test_refusal_names_the_flags_and_saves_nothing(
    stack: Stack, analyze: Run, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text(f"{PROMPT}\n\n{'apple ' * 5000}\n")
    said = analyze(
        *("--url", stack.url, "--texts", "texts.txt", "--layers", "0", "9"),
        *("--target-position", "6", "--target-token", "two words"),
    )
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("mambascope: The request is not valid.\n")
    assert "--layers (/layers/1): `pocket/recall-mamba` has no layer 9" in said.stderr
    assert "texts.txt, line 3 (/texts/1): The text has 5000 tokens" in said.stderr
    assert not (tmp_path / "mambascope-output").exists()


def test_job_can_be_left_and_fetched_later(stack: Stack, analyze: Run, tmp_path: Path) -> None:
    left = analyze("--url", stack.url, "--text", PROMPT, "--no-figures", "--no-wait")
    assert left.returncode == 0, left.stderr
    location = left.stdout.strip()
    assert location.startswith(f"{stack.url}/v1/jobs/")
    assert not (tmp_path / "mambascope-output").exists()
    by_url = analyze("--job", location, "--output", "one")
    by_id = analyze("--job", location.rpartition("/")[2], "--url", stack.url, "--output", "two")
    assert (by_url.returncode, by_id.returncode) == (0, 0), by_url.stderr + by_id.stderr
    assert (tmp_path / "one/result.json").read_bytes() == (
        tmp_path / "two/result.json"
    ).read_bytes()
    unknown = analyze("--job", f"{location[:-4]}0000")
    assert unknown.returncode == 2
    assert "There is no job" in unknown.stderr


def test_terminal_gets_a_bar_and_the_pipe_does_not(stack: Stack, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("--url", stack.url, "--text", PROMPT, "--output", tmp_path / "out"),
        env=environment(tmp_path) | {"TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = shown_until_closed(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "\u2501".encode() in shown
    assert b"100%" in shown
    assert b"\x1b[?25h" in shown, "the cursor is back"
    assert b"\x1b" not in out
    assert b"pocket/recall-mamba" in out


def test_failed_job_ends_with_1_and_its_problem(
    puppet: Stack, analyze: Run, do: Callable[..., list[str]]
) -> None:
    said = analyze(*do("problem"), "--url", puppet.url)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.endswith(
        "mambascope: The trace does not rebuild the model's own output.\n"
        "  the rebuilt output is off by 0.5\n"
    )


def test_timeout_ends_with_4_and_says_where_the_job_is(
    puppet: Stack, analyze: Run, do: Callable[..., list[str]]
) -> None:
    said = analyze(*do("sleep"), "--url", puppet.url, "--timeout", "0.5", "--output", "a b")
    assert (said.returncode, said.stdout) == (4, "")
    *_, late, where, how = said.stderr.splitlines()
    assert late == "mambascope: The job has not ended within 0.5 s."
    location = where.split()[4].rstrip(".")
    assert httpx.get(location).json()["status"] in ("queued", "running")
    assert how == f"  mambascope analyze --job {location} --output 'a b'"


def test_interrupt_leaves_the_job_at_a_running_service(
    puppet: Stack, tmp_path: Path, do: Callable[..., list[str]]
) -> None:
    process = subprocess.Popen(
        command(*do("sleep"), "--url", puppet.url),
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("queued")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted.\nThe job is at http://127.0.0.1" in said
    assert puppet.pids


def test_interrupt_stops_a_service_of_its_own(tmp_path: Path, do: Callable[..., list[str]]) -> None:
    process = subprocess.Popen(
        command(*do("sleep"), module="tests.mambascope.up"),
        cwd=ROOT,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith("queued"):
        assert process.poll() is None
    members = family(process.pid)
    assert len(members) == 5, "the command, store, API, worker and runner"
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said.splitlines()[-1]) == (130, "mambascope: Interrupted.")
    until(lambda: all(gone(pid) for pid in members), "the end of every process")
    assert [path.name for path in tmp_path.iterdir()] == ["request.json"]


def test_service_of_its_own_keeps_its_data_where_it_is_told(analyze: Run, tmp_path: Path) -> None:
    said = analyze(*("--text", "a", "--json", "--data-dir", "kept"), module="tests.mambascope.up")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["attempt"] == 1
    assert said.stderr.startswith("starting (a store, the API and a worker")
    assert (tmp_path / "kept" / "logs" / "api.log").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "mambascope-output"}


def test_service_that_does_not_start_ends_with_1(analyze: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = analyze("--text", "a", "--data-dir", "file")
    assert (said.returncode, said.stdout) == (1, "")
    assert "cannot be used" in said.stderr
    said = analyze("--text", "a", module="tests.mambascope.up", TESTS_WORKER_MODULE="no_such")
    assert said.returncode == 1
    assert "The worker-1 does not start (exit code 1)" in said.stderr
    (log,) = tmp_path.glob("mambascope-*/logs/worker-1.log")
    assert str(log) in said.stderr, "the log that the message names is kept"


def test_wrong_setting_names_its_variable(analyze: Run) -> None:
    said = analyze("--text", "a", MAMBASCOPE_MAX_TEXTS="many")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("mambascope: MAMBASCOPE_MAX_TEXTS: ")


def test_key_that_cannot_be_sent_is_told(analyze: Run) -> None:
    said = analyze("--text", "a", "--url", "localhost:1", MAMBASCOPE_KEY="two words")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("mambascope: MAMBASCOPE_KEY: The key is not one line")


def test_refusal_of_a_header_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A key that is missing is wrong in no field of the request."""
    detail = "This service asks for a key."
    wrong = FieldError(parameter="Authorization", detail=detail)
    body = Problem.of(ProblemType.UNAUTHENTICATED, detail, [wrong]).model_dump_json().encode()

    class Closed(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(401)
            self.send_header("Content-Type", "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with HTTPServer(("127.0.0.1", 0), Closed) as server:
        Thread(target=server.handle_request, daemon=True).start()
        assert run(["--text", "a", "--url", f"127.0.0.1:{server.server_port}", "--no-wait"]) == 2
    assert f"  Authorization: {detail}\n" in capsys.readouterr().err


def test_nothing_there_ends_with_3(analyze: Run) -> None:
    said = analyze("--text", "a", "--url", "localhost:1")
    assert (said.returncode, said.stdout) == (3, "")
    assert said.stderr == (
        "mambascope: Nothing answers at http://localhost:1 ([Errno 111] Connection refused).\n"
    )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--text", "a", "--no-wait"], "--no-wait needs --url"),
        (["--job", "1"], "--job needs the service that has it"),
        (["--job", "1", "--url", "x", "--layers", "0"], "--layers belongs to a new job"),
        (["--job", "1", "--url", "x", "--no-wait"], "leave --no-wait out"),
        (["--text", "a", "--url", "x", "--data-dir", "d"], "give one of the two"),
        (["--text", "a", "--url", "ftp://x"], "is no address such as"),
        (["--text", "a", "--url", "http://x:port"], "is no address"),
        (["--text", "a", "--output", "/dev/null"], "/dev/null is no directory"),
        (["--text", "a", "--output", "/dev/null/deep"], "/dev/null is no directory"),
    ],
)
def test_wrong_usage_ends_with_2(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {number: signal.getsignal(number) for number in (2, 15, 1)}
    try:
        assert run(typed) == 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    out, err = capsys.readouterr()
    assert (out, err.startswith("mambascope: ")) == ("", True)
    assert said in err


def test_help_lists_flags_and_exit_codes(analyze: Run) -> None:
    said = analyze("--help")
    assert (said.returncode, said.stderr) == (0, "")
    assert max(map(len, said.stdout.splitlines())) <= 80
    assert "\nexit codes:\n" in said.stdout
    flags = set(re.findall(r"--[a-z][a-z-]*(?![\w-])", said.stdout))
    documented = (ROOT / "docs" / "command_line.md").read_text()
    assert flags == set(re.findall(r"--[a-z][a-z-]*(?![\w-])", documented)), "docs/command_line.md"
    listed = subprocess.run(
        [sys.executable, "-m", "mambascope", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert "analyze" in listed.stdout
