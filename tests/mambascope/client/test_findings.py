"""Tables and pictures of a result, from a job that has every section."""

import json
import sys
from collections.abc import Iterator
from typing import get_args

import pytest

from mambascope import Analysis, Client
from mambascope.client.exchange import understood
from mambascope.client.markup import analysis_html
from mambascope.client.tables import Table
from mambascope.stack import Stack
from schemas.result import ResultDocument

TEXTS = [
    "apple 3 river 7 stone 1 river",
    "river 7 apple 3 house 2 river",
    "stone 1 river 7 apple 4 river",
]
MODELS = ["pocket/recall-mamba", "pocket/recall-gpt2"]


@pytest.fixture(scope="module")
def everything(stack: Stack) -> Iterator[Analysis]:
    with Client(stack.url) as client:
        yield client.analyze(
            TEXTS,
            models=MODELS,
            layers="all",
            attention={"methods": ["contribution"], "layers": [1]},
            neurons={"attribution": True},
            knowledge_neurons={"facts": [{"prompt": TEXTS[0], "answer": " 7"}], "steps": 5},
            perturbation={
                "sets": [{"found_by": "variance", "count": 2}],
                "control_texts": ["house 5 stone 2 house"],
                "random_sets": 2,
            },
            universality={},
            figures=False,
        )


def test_every_table_has_tidy_rows(everything: Analysis) -> None:
    blocks = [b for analysis in everything.result.neuron_analysis for b in analysis.blocks]
    neurons = sum(block.num_neurons for block in blocks)
    rows = {what: len(everything.rows(what)) for what in get_args(Table)}
    assert rows["targets"] == rows["layers"] == 6
    assert rows["tokens"] == 6 * 7
    assert rows["neurons"] == rows["universality"] == neurons
    assert rows["profiles"] == 2
    assert rows["agreements"] == 3
    assert rows["perturbation"] == 2
    assert min(rows.values()) > 0
    for what in rows:
        frame = everything.to_dataframe(what)
        assert len(frame) == rows[what]
        assert all(isinstance(name, str) for name in frame.columns)
        assert not any(
            frame[name].map(lambda v: isinstance(v, list | dict)).any() for name in frame
        )


def test_tables_say_what_the_document_says(everything: Analysis) -> None:
    read = everything.text(1, MODELS[1]).attention_analysis[1].methods
    (contribution,) = read.values()
    frame = everything.to_dataframe()
    ours = frame[(frame.model == MODELS[1]) & (frame.text == 1)]
    assert list(ours.relevance) == contribution.token_relevance
    assert " ".join(ours.token) == TEXTS[1]
    effect = everything.result.perturbation[0].results[0]
    row = everything.rows("perturbation")[0]
    assert row["probability"] == effect.effect.probability
    assert row["random_loss"] == (effect.random.loss and effect.random.loss.mean)
    assert row["control_logit"] == (effect.control and effect.control.logit)
    assert row["found_by"] == "variance"
    (first, *_) = everything.rows("knowledge_neurons")
    fact = everything.result.knowledge_neurons[0].facts[0]
    assert (first["neuron"], first["block"]) == (fact.neurons[0].neuron, "mixer")


def test_table_that_there_is_not(everything: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no table 'words': give one of tokens, targets"):
        everything.rows("words")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'mambascope\[notebook\]'"):
        everything.to_dataframe()


def test_page_escapes_what_others_wrote(everything: Analysis) -> None:
    page = everything._repr_html_()
    assert page.count("<table>") == 6
    assert "rgba(214,96,77,1.00)'>7</span>" in page
    hostile = "<script>alert('1')</script>\x1b"
    text = everything.texts[0]
    token = text.tokens[0].model_copy(update={"text": hostile})
    target = text.target.token.model_copy(update={"token": hostile})
    changed = text.model_copy(
        update={
            "model": hostile,
            "tokens": [token, *text.tokens[1:]],
            "target": text.target.model_copy(update={"token": target, "contrast": target}),
        }
    )
    without = changed.model_copy(
        update={"attention_analysis": {}, "attention_unavailable_reason": hostile}
    )
    document = everything.result.model_copy(update={"results": [changed, without] * 40})
    job = everything.job.model_copy(update={"id": hostile})
    page = analysis_html(job, document, 1)
    assert "<script" not in page
    assert "\x1b" not in page
    assert page.count("&lt;script&gt;") > 8
    assert "And 72 texts more" in page
    assert "13 files" not in repr(everything)
    assert repr(everything).endswith("3 texts of pocket/recall-mamba, pocket/recall-gpt2, 1 file>")


def test_newer_service_may_say_more(everything: Analysis) -> None:
    written = everything.result.model_dump(mode="json") | {"novelty": {"deep": [1]}}
    written["results"][0]["tokens"][0]["shade"] = "red"
    assert understood(json.dumps(written), ResultDocument) == everything.result
