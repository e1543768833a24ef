"""A result as HTML for a notebook: what each text was read for, its tokens coloured."""

from html import escape

from mambascope.visible import counted, visible
from schemas.job import Job
from schemas.result import MethodAttention, ResultDocument, TextResult

# What is more is counted; a notebook is no place for ten thousand texts.
_MOST_TEXTS = 8
_MOST_TOKENS = 200
_CELL = "padding:0 .3em;border-radius:.2em;white-space:pre"
# The two ends of matplotlib's diverging maps for the colour-blind, as in the figures.
_TOWARDS, _AGAINST = "214,96,77", "67,147,195"


def analysis_html(job: Job, document: ResultDocument, files: int) -> str:
    """The whole of it, every string of others escaped."""
    shown = document.results[:_MOST_TEXTS]
    left = len(document.results) - len(shown)
    parts = [
        "<div>",
        f"<p><b>Analysis</b> <code>{_safe(job.id)}</code>, {counted(files, 'file')}</p>",
        *(_text(result) for result in shown),
        f"<p>And {counted(left, 'text')} more.</p>" if left else "",
        "</div>",
    ]
    return "".join(parts)


def _text(result: TextResult) -> str:
    target = result.target
    against = f" against {_token(target.contrast.token)}" if target.contrast else ""
    head = (
        f"<p style='margin-bottom:0'>{_safe(result.model)}, text {result.text_index}: "
        f"{_token(target.token.token)}{against}, p = {target.token.probability:.3f}</p>"
    )
    if not result.attention_analysis:
        return f"{head}<p>{_safe(result.attention_unavailable_reason or '')}</p>"
    layer = max(result.attention_analysis)
    methods = result.attention_analysis[layer].methods
    lines = "".join(
        f"<tr><td style='text-align:left'>{_safe(method.value)}</td>"
        f"<td style='text-align:left'>{_strip(result, read)}</td></tr>"
        for method, read in methods.items()
    )
    return f"{head}<table><caption>layer {layer}</caption>{lines}</table>"


def _strip(result: TextResult, read: MethodAttention) -> str:
    """The tokens, each as strongly coloured as its relevance is large."""
    values = read.token_relevance
    largest = max((abs(value) for value in values), default=0.0) or 1.0
    spans = [
        f"<span title='{value:.4g}' style='{_CELL};background:"
        f"rgba({_TOWARDS if value > 0 else _AGAINST},{abs(value) / largest:.2f})'>"
        f"{_safe(token.text)}</span>"
        for token, value in zip(result.tokens[:_MOST_TOKENS], values, strict=False)
    ]
    left = len(result.tokens) - len(spans)
    return "".join(spans) + (f" and {counted(left, 'token')} more" if left else "")


def _token(token: str) -> str:
    return f"<code>{_safe(token)}</code>"


def _safe(string: str) -> str:
    return escape(visible(string))
