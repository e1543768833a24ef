"""Whether a job fits the memory that one may use, and the words for one that does not."""

from dataclasses import replace

from catalogue.memory import (
    Needs,
    activation_room,
    is_plausible,
    loading_bytes,
    longest_that_fits,
    needs,
)
from catalogue.workload import Workload, without_gradient
from schemas.catalogue import ModelDescription
from schemas.names import NEEDS_GRADIENT, Method
from schemas.problem import FieldError, ProblemError
from schemas.settings import GIB

SETTING = "MAMBASCOPE_JOB_MEMORY_BYTES"


def memory_error(index: int, work: Workload, results: int, budget: int) -> FieldError | None:
    """The objection to what model `index` of a job needs, or None if it fits the budget.

    `results` is what all of the job's models keep to its end, in bytes.
    """
    alone = model_objection(work.model, budget)
    if alone is not None:
        return FieldError(pointer=f"/models/{index}", detail=alone)
    found = needs(work, results)
    if found.total <= budget or not is_plausible(work.model):
        return None
    text = work.lengths.index(work.longest)
    fitting = longest_that_fits(work, results, budget)
    detail = (
        f"Text {text} has {work.longest} tokens in `{work.model.id}`, which takes "
        f"{_gib(found.total, up=True)} of memory ({_parts(found)}); a job may use {_gib(budget)}. "
        f"{_mend(work, fitting, results, budget)}, or have the operator raise {SETTING}."
    )
    pointer = f"/texts/{text}" if fitting else "/texts"
    return FieldError(pointer=pointer, detail=detail)


def require_room(index: int, work: Workload, results: int, budget: int) -> int:
    """Bytes that one batch's activations may take; see `memory_error` for the arguments.

    Raises ProblemError (invalid-request): the job does not fit the budget.
    """
    error = memory_error(index, work, results, budget)
    if error is not None:
        raise ProblemError.of_field(error)
    return activation_room(work, results, budget)


def model_objection(model: ModelDescription, budget: int) -> str | None:
    """Why the model alone is more than a job may use, or None if it is not."""
    size = loading_bytes(model)
    if size <= budget:
        return None
    return (
        f"`{model.id}` takes {_gib(size, up=True)} of memory to load; a job may use "
        f"{_gib(budget)}. Name a smaller model, or have the operator raise {SETTING}."
    )


def tensors_error(total: int, limit: int) -> FieldError | None:
    """The objection to `tensors.safetensors` of `total` bytes, or None within the limit."""
    if total <= limit:
        return None
    detail = (
        f"tensors.safetensors would hold {total} bytes; a job's may hold {limit}. Send fewer or "
        "shorter texts, fewer layers or methods, set `attention.rows` to `target`, or set "
        "`tensors` to false."
    )
    return FieldError(pointer="/tensors", detail=detail)


def _mend(work: Workload, fitting: int, results: int, budget: int) -> str:
    """What would make the job fit; a change that would not is left out where that is known."""

    def fits(changed: Workload) -> bool:
        return needs(changed, results).total <= budget

    ways = []
    of_target = replace(work, rows=dict.fromkeys(work.rows, "target"))
    rows = ["set `attention.rows` to `target`"] if work.whole else []
    if work.whole and fits(of_target):
        ways += rows
    elif _clamps(work) and fits(replace(of_target, rollout_clamp=False)):
        ways.append(" and ".join([*rows, "set `attention.rollout_clamp` to `false`"]))
    if work.selection.gradient and fits(without_gradient(work)):
        named = " and ".join(f"`{method}`" for method in work.rows if method in NEEDS_GRADIENT)
        ways.append(f"leave out {named}, which need the gradient")
    if fitting:
        ways.append(f"shorten texts to about {fitting} tokens")
    else:
        ways.append("send fewer texts" if len(work.lengths) > 1 else "ask for less")
    if len(work.selection.layers) > 1:
        ways.append("name fewer layers")
    if len(work.methods) > 1:
        ways.append("ask for fewer methods")
    if work.tensors:
        ways.append("set `tensors` to false")
    said = ", ".join(ways)
    return said[0].upper() + said[1:]


def _clamps(work: Workload) -> bool:
    """Whether matrices are needed for the clamp of a rollout, whatever rows are asked for."""
    return Method.ROLLOUT in work.methods and work.rollout_clamp


def _parts(found: Needs) -> str:
    """The parts that matter: each one's name and size, the largest first."""
    named = {
        "model": found.model,
        "activations": found.activations,
        "matrices": found.matrices,
        "results": found.results,
        "other": found.other,
    }
    ordered = sorted(named.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {_gib(size)}" for name, size in ordered if 100 * size > found.total)


def _gib(size: int, up: bool = False) -> str:
    """GiB at two decimals; what is needed is rounded up, so it never reads as what is allowed."""
    hundredths = -(-100 * size // GIB) if up else 100 * size // GIB
    return f"{hundredths / 100:.2f} GiB"
