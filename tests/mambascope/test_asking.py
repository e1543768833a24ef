"""From what was typed to the request that is sent."""

import json
from pathlib import Path

import pytest

from mambascope.arguments import parse
from mambascope.asking import Asked, asked
from mambascope.usage import UsageProblem
from schemas.request import JobRequest


def request(*typed: str) -> Asked:
    return asked(parse(typed))


def body(*typed: str) -> dict[str, object]:
    made = request(*typed).body
    JobRequest.model_validate(made)
    return made


def test_nothing_but_what_was_given_is_sent() -> None:
    assert body("--text", "a") == {"texts": ["a"]}


def test_every_flag_finds_its_field() -> None:
    assert body(
        *("--models", "state-spaces/mamba-130m-hf", "gpt2"),
        *("--text", "a", "--text", "b"),
        *("--layers", "0", "6", "12", "18"),
        *("--attention-layers", "0", "3", "--attention-layers", "6", "9"),
        *("--attention-methods", "attention_weighted", "gradient_guided"),
        *("--enable-attention", "--neurons", "--rows", "all"),
        *("--target-position", "-1", "--target-token", " Paris", "--contrast", " Rome"),
        *("--top-k", "5", "--no-figures", "--tensors", "--seed", "7"),
    ) == {
        "models": ["state-spaces/mamba-130m-hf", "gpt2"],
        "texts": ["a", "b"],
        "layers": [0, 6, 12, 18],
        "target": {"position": -1, "token": " Paris", "contrast": " Rome"},
        "attention": {
            "methods": ["attention_weighted", "gradient_guided"],
            "layers": [0, 3, 6, 9],
            "rows": "all",
        },
        "neurons": {"top_k": 5},
        "figures": False,
        "tensors": True,
        "seed": 7,
    }


def test_flags_may_be_written_with_underscores() -> None:
    hyphens = body(
        *("--text=--a_b", "--attention-layers", "0", "--attention-methods=rollout"),
        *("--enable-attention", "--no-neurons"),
    )
    assert hyphens["texts"] == ["--a_b"]
    assert hyphens["neurons"] is None
    assert hyphens == body(
        *("--text=--a_b", "--attention_layers", "0", "--attention_methods=rollout"),
        *("--enable_attention", "--no_neurons"),
    )
    for flag in ("--no-enable-attention", "--no-enable_attention", "--no_enable_attention"):
        assert body("--text", "a", flag)["attention"] is None


def test_all_layers() -> None:
    made = body("--text", "a", "--layers", "all", "--attention-layers", "all")
    assert (made["layers"], made["attention"]) == ("all", {"layers": "all"})
    with pytest.raises(UsageProblem, match="--layers: give layer indices, or `all` alone"):
        body("--text", "a", "--layers", "0", "--layers", "all")


def test_texts_keep_the_order_in_which_they_were_given(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("2\n3\n")
    made = request("--text", "1", "--texts", str(tmp_path / "x"), "--text", "4")
    assert made.body["texts"] == ["1", "2", "3", "4"]
    assert made.origin("/texts/0") == "--text"
    assert made.origin("/texts/2") == f"{tmp_path / 'x'}, line 2"
    assert made.origin("/texts") == "--texts"


def test_flags_stand_above_the_request_file(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    facts = {"facts": [{"prompt": "a", "answer": "b"}]}
    given = {
        "texts": ["from the file"],
        "knowledge_neurons": facts,
        "attention": {"methods": ["rollout"], "rollout_clamp": False},
        "neurons": None,
        "seed": 3,
    }
    file.write_text(json.dumps(given))
    assert body("--request", str(file)) == given
    from_file = f"--request {file}"
    assert request("--request", str(file)).origin("/attention/methods/0") == from_file
    made = request("--request", str(file), "--attention-methods", "contribution", "--neurons")
    assert made.body == given | {
        "attention": {"methods": ["contribution"], "rollout_clamp": False},
        "neurons": {},
    }
    assert made.origin("/knowledge_neurons/facts/0/answer") == from_file
    assert made.origin("/attention/methods/0") == "--attention-methods"
    assert made.origin("/attention/rollout_clamp") == from_file
    assert made.origin("/seed") == from_file
    assert made.origin("/neurons") == "--neurons"
    assert made.origin("/layers/1") == "--layers"
    assert made.origin("/webhook") is None
    assert request("--request", str(file), "--text", "b").body["texts"] == ["b"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "Give texts"),
        (["--text", "a", "--no-enable-attention", "--rows", "all"], "--rows asks for what --no-en"),
        (["--text", "a", "--no-neurons", "--top-k", "3"], "--top-k asks for what --no-neurons"),
        (["--texts", "-", "--request", "-"], "Standard input can be read once"),
        (["--texts", "-", "-"], "Standard input can be read once"),
        (["--text", "\udcff"], "--text: what was typed is not UTF-8"),
    ],
)
def test_contradictions_are_said(typed: list[str], said: str) -> None:
    with pytest.raises(UsageProblem, match=said):
        request(*typed)


@pytest.mark.parametrize("written", ["[1]", "{", '{"target": 3}', "\udcff"])
def test_request_file_that_is_no_request_is_said(tmp_path: Path, written: str) -> None:
    file = tmp_path / "request.json"
    file.write_bytes(written.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageProblem):
        request("--text", "a", "--target-position", "0", "--request", str(file))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--layers", "x"], "'x' is no layer: give numbers from 0 on"),
        (["--layers", "-1"], "'-1' is no layer"),
        (["--layers"], "expected at least one argument"),
        (["--attention-methods", "rolout"], "invalid choice: 'rolout'"),
        (["--rows", "some"], "invalid choice: 'some'"),
        (["--timeout", "0"], "no number of seconds above 0"),
        (["--timeout", "nan"], "no number of seconds above 0"),
        (["--atention"], "unrecognized arguments: --atention"),
        (["--attention"], "unrecognized arguments: --attention"),
        (["stray"], "unrecognized arguments: stray"),
    ],
)
def test_wrong_usage_ends_with_2(
    capsys: pytest.CaptureFixture[str], typed: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(typed)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
