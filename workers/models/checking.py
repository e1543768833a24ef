"""What is tried of a model before it is used: that it runs, and that its mixers can be traced."""

from typing import Any

import torch

from catalogue.tokeniser import Tokeniser
from catalogue.weights import invalid
from schemas.catalogue import ModelDescription
from schemas.problem import ProblemError, ProblemType
from workers.mixers import ATTENTION, adapter_for, mixers_of
from workers.mixers.protocol import Capture
from workers.models.readout import Readout
from workers.models.refusing import first_line, unsupported
from workers.passes.batch import Batch
from workers.passes.whole import WholePass

# A few tokens: enough for positions and shared heads to show. What only shows in longer texts, a
# window say, is for the self-check of every job.
_TOKENS = 6
# Of the model's own dtype, whose rounding is for that self-check too.
_ROUNDINGS = 16
# Roundings of a logit in the model's own type: the factor, and a cap's quotient, tanh and product.
_READOUT_ROUNDINGS = 4


def check_vocabulary(name: str, model: Any, tokeniser: Tokeniser) -> None:
    """Raise ProblemError (model-invalid) for a tokenizer with ids that have no embedding."""
    rows = model.get_input_embeddings().weight.shape[0]
    known = tokeniser.tokenizer.get_vocab(with_added_tokens=True).values()
    # What a post-processor adds to every text need not be in the vocabulary.
    largest = max([*known, *tokeniser.ids("")], default=-1)
    if largest >= rows:
        raise invalid(
            name,
            f"its tokenizer.json has a token with id {largest}, but the model embeds only {rows} "
            "tokens; use the tokenizer that it was trained with",
        )


def check_forward(name: str, model: Any, readout: Readout, device: torch.device) -> None:
    """Two tiny forward passes: logits are what is read of the last hidden state, and causal.

    The tracing pass relies on both: it reads the head at one position and pads on the right. Raises
    ProblemError (unsupported-architecture, not-finite).
    """
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([[0, 1, 2], [0, 1, 3]], device=device) % rows
    try:
        with torch.no_grad():
            full = model(input_ids=ids, use_cache=False).logits.float()
            states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            read_out = readout(states)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise unsupported(name, f"it does not run on token ids: {first_line(error)}") from error
    if not bool(torch.isfinite(full).all()):
        raise ProblemError(
            ProblemType.NOT_FINITE,
            f"The model `{name}` computes infinities or NaN for its first tokens. Check its "
            "weights.",
        )
    scale = float(full.abs().max())
    # The same sums in the same order; between rows of a batch the order may differ. A factor and a
    # cap are applied here in float32, by the model in its own type.
    tolerance = max(1e-4, _READOUT_ROUNDINGS * torch.finfo(model.dtype).eps)
    if not torch.allclose(read_out, full, rtol=0, atol=tolerance * scale):
        raise unsupported(name, "its logits are not its output embedding of the last hidden state")
    if not torch.allclose(full[0, :2], full[1, :2], rtol=0, atol=1e-2 * scale):
        raise unsupported(name, "it is not causal: a later token changes an earlier logit")


def check_mixers(name: str, model: Any, description: ModelDescription, tolerance: float) -> None:
    """Refuse a model with a mixer that has an adapter but no exact trace, or none where it should.

    The description promised these mixers before the model was loaded. Attention modules share one
    adapter, whatever they compute: each must rebuild its own output for a few tokens. Raises
    ProblemError (unsupported-architecture).
    """
    found = mixers_of(model)
    for module in found.values():
        adapter = adapter_for(module)
        objection = None if adapter is None else adapter.objection(module)
        if objection is not None:
            raise unsupported(name, objection)
    for known in description.layers:
        if known.methods and known.layer not in found:
            what = f"its layer {known.layer} carries no {known.mixer} mixer that is known here"
            raise unsupported(name, what)
    _check_attention(name, model, tolerance)


def _check_attention(name: str, model: Any, tolerance: float) -> None:
    modules = {k: m for k, m in mixers_of(model).items() if adapter_for(m) is ATTENTION}
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(_TOKENS, device=model.get_input_embeddings().weight.device)[None] % rows
    work = WholePass(Batch(model, modules, dict.fromkeys(modules, ATTENTION.hidden), [], ids, [0]))
    work.read()
    for layer, module in modules.items():
        capture = Capture(
            layer=layer,
            hidden=work.captured.hidden[layer][0],
            output=work.captured.output[layer][0].detach(),
            output_gradient=None,
            context=ATTENTION.context(work.captured.keywords[layer], 0, _TOKENS),
        )
        try:
            error = float(ATTENTION.trace(module, capture).summary().reconstruction_error)
        except TypeError as problem:
            what = f"the attention of its layer {layer} is called with more than is known here"
            raise unsupported(name, what) from problem
        except (ValueError, RuntimeError) as problem:
            what = f"its layer {layer} attends in a way that is not known here"
            raise unsupported(name, f"{what} ({first_line(problem)})") from problem
        if not error <= max(tolerance, _ROUNDINGS * torch.finfo(model.dtype).eps):
            what = f"the attention of its layer {layer} is not what is known here"
            raise unsupported(name, f"{what} (reconstruction error {error:.2g})")
