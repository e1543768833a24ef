"""The tracing pass: run a model once per batch of texts and keep what the analyses need.

One forward pass and at most one backward pass per batch (`passes`). Hooks on the mixer modules keep
their inputs and outputs; the model's own code computes everything else. Parameters require no
gradient, and nothing below the lowest gradient layer enters the graph.

Axes: b texts, l tokens (right-padded: a causal model never sees padding), m hidden size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from catalogue.passing import pass_bytes
from schemas.problem import FieldError, ProblemError, ProblemType
from workers.kernels import pulse
from workers.kernels.steps import Step
from workers.mixers import adapter_of, mixers_of
from workers.mixers.protocol import Capture
from workers.mixers.sites import Site
from workers.models import rotary
from workers.models.loading import LoadedModel
from workers.neuron_reading import NeuronReading
from workers.padding import padded, pads_little
from workers.passes import pass_over
from workers.passes.batch import Batch, Captured
from workers.traces import LayerTraces, Outcome, TargetIds, TextTrace, TraceRequest, traced

# What one batch holds at most, in activations and captures and in tokens: larger ones are not
# faster, and a job of many texts tells its progress between batches.
_BATCH_BYTES = 1 << 30
_BATCH_TOKENS = 8192


def trace(
    loaded: LoadedModel,
    batch: Sequence[TraceRequest],
    layers: set[int],
    gradient_layers: set[int],
) -> list[TextTrace]:
    """Trace every text, in order, as `trace_each` does, and raise the first text's failure.

    Layers whose mixer has no adapter are absent from `TextTrace.mixers`; `gradient_layers`, which
    `layers` must contain, also carry d target / d output. For many long texts use `trace_each`.

    Raises:
        ValueError, ProblemError: what `trace_each` raises, and what it yields in a trace's place.
    """
    found = dict(trace_each(loaded, batch, layers, gradient_layers))
    return [traced(found[index]) for index in range(len(batch))]


def trace_each(
    loaded: LoadedModel,
    batch: Sequence[TraceRequest],
    layers: set[int],
    gradient_layers: set[int],
    room: int = _BATCH_BYTES,
    attributed: Sequence[Site] = (),
) -> Iterator[tuple[int, Outcome]]:
    """Trace many texts: yields (index into `batch`, outcome) batch by batch, shortest texts first.

    Equal to tracing each alone within float32 rounding. A text that cannot be traced yields its
    ProblemError and leaves the others as they are: not-finite, when the model computes infinities
    or NaN for it; invalid-request, when its top token is its contrast. A consumer that drops each
    trace before the next holds one batch in memory, not all texts; a batch of several texts takes
    at most `room` bytes, by the estimate of `catalogue.memory`. `attributed` are the MLPs whose
    neurons' own gradients are wanted.

    Raises ValueError: an empty text, a position outside its text, or a gradient layer not in
    `layers`.
    """
    if not gradient_layers <= layers:
        raise ValueError("gradient_layers must be among layers")
    requests = [_checked(request) for request in batch]
    modules = {k: module for k, module in mixers_of(loaded.model).items() if k in layers}
    tracer = _Tracer(loaded, modules, gradient_layers & modules.keys(), attributed)
    lengths = [len(request.ids) for request in requests]
    stretching = rotary.stretching(loaded.model)
    # A budget of no tokens leaves each text alone.
    budget = 0 if stretching else tracer.token_budget(room, max(lengths, default=0))
    for indices in _batches(lengths, budget):
        for module in stretching:
            rotary.reset(module)
        yield from zip(indices, tracer.run([requests[i] for i in indices]), strict=True)


def _checked(request: TraceRequest) -> TraceRequest:
    """The request with its position counted from the start."""
    length = len(request.ids)
    if not length:
        raise ValueError("a text without tokens cannot be traced")
    if not -length <= request.position < length:
        raise ValueError(f"position {request.position} is outside a text of {length} tokens")
    return replace(request, ids=tuple(request.ids), position=request.position % length)


def _batches(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Indices grouped by length, so that each padded batch fits and padding stays below half."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        longest = lengths[index]
        fits = (len(group) + 1) * longest <= budget
        if group and not (fits and pads_little(lengths[group[0]], longest)):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


@dataclass(frozen=True)
class _Watch:
    """Hands each row of a batch to whoever reads its text's neurons."""

    sites: Sequence[Site]
    readers: Sequence[tuple[NeuronReading, list[int], list[int]]]

    @classmethod
    def over(cls, requests: Sequence[TraceRequest]) -> "_Watch | None":
        """Of a batch's texts; None where nobody reads any."""
        found: dict[int, tuple[NeuronReading, list[int], list[int]]] = {}
        for row, request in enumerate(requests):
            if request.reading is not None:
                reader = found.setdefault(id(request.reading), (request.reading, [], []))
                reader[1].append(row)
                reader[2].append(request.text)
        sites = dict.fromkeys(site for reading, *_ in found.values() for site in reading.sites)
        return cls(list(sites), list(found.values())) if sites else None

    def see(self, site: Site, x: Tensor, start: int, steps: Sequence[Step]) -> None:
        """As `passes.batch.Watch.see`."""
        for reading, rows, texts in self.readers:
            reading.read(site, x, steps, rows, texts, start)


@dataclass(frozen=True)
class _Tracer:
    """The pass over one model: the mixers to capture and those whose gradient is wanted."""

    loaded: LoadedModel
    modules: dict[int, nn.Module]
    gradient_layers: set[int]
    attributed: Sequence[Site]

    def token_budget(self, room: int, longest: int) -> int:
        """Padded tokens that one batch may have, its texts no longer than `longest`."""
        model = self.loaded.description
        on_gpu = self.loaded.device.type == "cuda"
        taken = pass_bytes(model, len(self.modules), self.gradient_layers, longest, on_gpu)
        return min(taken.tokens_in(min(room, _BATCH_BYTES)), _BATCH_TOKENS)

    def run(self, requests: list[TraceRequest]) -> list[Outcome]:
        """Forward, then backward if any gradient is wanted, then one outcome per text."""
        work = pass_over(self._batch(requests))
        read = work.read()
        wants_gradient = bool(self.gradient_layers or self.attributed)
        with torch.set_grad_enabled(wants_gradient):
            read.requires_grad_(wants_gradient)
            logits = self._logits(read)
            targets = [_target(request, row) for request, row in zip(requests, logits, strict=True)]
            values = [_value(target, row) for target, row in zip(targets, logits, strict=True)]
            failed = [
                _failure(request, target, row)
                for request, target, row in zip(requests, targets, logits, strict=True)
            ]
            explained = [value for value, why in zip(values, failed, strict=True) if why is None]
            gradients = {}
            if wants_gradient and explained:
                # Texts do not mix, so the gradient of the sum is each one's own.
                total = torch.stack(explained).sum()
                gradients = work.gradients(*torch.autograd.grad(total, read))
        captured = work.captured
        outcomes: list[Outcome] = []
        for row, request in enumerate(requests):
            pulse.beat()
            why = failed[row] or _failure_inside(request, captured.output, row)
            trace = TextTrace(
                ids=tuple(request.ids),
                target=targets[row],
                logits=logits[row].detach().clone(),
                value=float(values[row].detach()),
                mixers=self._mixers(row, len(request.ids), captured, gradients),
                attributed={
                    site: pulled[row, : len(request.ids)].sum(0)
                    for site, pulled in captured.attributed.items()
                },
            )
            outcomes.append(trace if why is None else why)
        return outcomes

    def _batch(self, requests: list[TraceRequest]) -> Batch:
        return Batch(
            model=self.loaded.model,
            modules=self.modules,
            hidden={layer: adapter_of(module).hidden for layer, module in self.modules.items()},
            gradient_layers=sorted(self.gradient_layers),
            ids=padded(request.ids for request in requests).to(self.loaded.device),
            positions=[request.position for request in requests],
            watch=_Watch.over(requests),
            attributed=self.attributed,
        )

    def _logits(self, read: Tensor) -> Tensor:
        """(b, vocab) float32: next-token logits at the positions read, (b, m)."""
        return self.loaded.readout(read)

    def _mixers(
        self, row: int, length: int, captured: Captured, gradients: dict[int, Tensor]
    ) -> LayerTraces:
        def cut(tensor: Tensor) -> Tensor:
            return tensor[row, :length].detach()

        captures = {
            layer: Capture(
                layer=layer,
                hidden=cut(captured.hidden[layer]),
                output=cut(captured.output[layer]),
                output_gradient=cut(gradients[layer]) if layer in gradients else None,
                context=adapter_of(self.modules[layer]).context(
                    captured.keywords.get(layer, {}), row, length
                ),
            )
            for layer in self.modules
        }
        return LayerTraces(captures, self.modules)


def _target(request: TraceRequest, logits: Tensor) -> TargetIds:
    token = int(logits.argmax()) if request.token is None else request.token
    return TargetIds(request.position, token, request.contrast)


def _failure(request: TraceRequest, target: TargetIds, logits: Tensor) -> ProblemError | None:
    """Why the target of a text cannot be explained, or None."""
    if not bool(torch.isfinite(logits).all()):
        return _not_finite("vector of logits", request)
    if target.token != target.contrast:
        return None
    detail = (
        f"The model's own top token for text {request.text} is the contrast itself, so there is "
        "nothing to explain. Name `target.token`, or another contrast."
    )
    return ProblemError.of_field(FieldError(pointer="/target/contrast", detail=detail))


def _failure_inside(
    request: TraceRequest, outputs: Mapping[int, Tensor], row: int
) -> ProblemError | None:
    """The first layer whose mixer computed no numbers for a text, or None."""
    for layer, output in outputs.items():
        # Two numbers, not a tensor of the text's size: infinities and NaN show in one of them.
        ends = torch.stack(output[row, : len(request.ids)].aminmax())
        if not bool(torch.isfinite(ends).all()):
            return _not_finite(f"mixer output of layer {layer}", request)
    return None


def _not_finite(what: str, request: TraceRequest) -> ProblemError:
    return ProblemError(
        ProblemType.NOT_FINITE,
        f"The model's {what} holds infinities or NaN for text {request.text}. Check the model's "
        "weights, or leave this text out.",
    )


def _value(target: TargetIds, logits: Tensor) -> Tensor:
    chosen = logits[target.token]
    return chosen if target.contrast is None else chosen - logits[target.contrast]
