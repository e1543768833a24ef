"""What the figures of a comparison are drawn from, taken out of the results."""

from collections.abc import Sequence

from schemas.comparison import Comparison
from schemas.result import TextResult
from workers.analyses.comparison import methods_of, shares
from workers.figures.parts import ComparedModel, ComparedText, ComparisonPart


def comparison_part(
    job_id: str, comparison: Comparison, results: Sequence[TextResult]
) -> ComparisonPart:
    """Every text that some model has read, under each model that has."""
    texts = sorted({result.text_index for result in results if methods_of(result)})
    return ComparisonPart(
        job_id=job_id,
        comparison=comparison,
        texts=[_text([r for r in results if r.text_index == text]) for text in texts],
    )


def _text(results: Sequence[TextResult]) -> ComparedText:
    return ComparedText(
        text_index=results[0].text_index,
        text=results[0].text,
        models=[_model(result) for result in results if methods_of(result)],
    )


def _model(result: TextResult) -> ComparedModel:
    return ComparedModel(
        model=result.model,
        target=result.target.token.token,
        position=result.target.position,
        layers=len(result.attention_analysis),
        tokens=result.tokens,
        shares={method: shares(result, method) for method in methods_of(result)},
    )
