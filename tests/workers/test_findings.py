"""What a job has found, and the file that it becomes."""

import json

from schemas.result import Candidate, Provenance, ResultDocument, TargetResult, TextResult, Token
from workers.findings import Findings

HOSTILE = 'a "results":[] in a text, and \\"results\\":[]'
PROVENANCE = Provenance(
    models=[], versions={'"results":[]': '"results":[]'}, seed=0, seconds={}, models_loaded=0
)


def result(text: int, words: str) -> TextResult:
    said = Candidate(id=1, token='"results":[]', logit=1.0, probability=0.5)
    return TextResult(
        model="m",
        text_index=text,
        text=words,
        tokens=[Token(id=1, text=words, start=0, end=len(words))],
        target=TargetResult(position=0, token=said, contrast=None, value=1.0, top=[said]),
        has_attention_analysis=False,
    )


def test_the_file_is_the_document_whatever_the_texts_hold() -> None:
    findings = Findings("job", layers={'"results":[]': [0]})
    made = [result(index, f"{HOSTILE} {index}") for index in range(3)]
    # As they pass: the shortest first, not in the order of the request.
    for index in (2, 0, 1):
        findings.add(0, index, made[index])
    findings.add(1, 0, made[0])
    read = ResultDocument.model_validate_json(findings.render(PROVENANCE))
    assert read.results == [*made, made[0]]
    assert read.provenance == PROVENANCE
    assert read.layers == findings.layers


def test_a_job_without_texts_yet_is_a_document_too() -> None:
    assert json.loads(Findings("job").render(PROVENANCE))["results"] == []
