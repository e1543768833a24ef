"""Every architecture against explicit float64 references: `python -m tests.architecture_table`.

Prints the table of docs/architectures.md. Each number is the worst over the layers of a tiny random
model that was saved to disk and loaded as a user's, on a text of 100 tokens, and relative to the
largest number of what it is compared with; row sums, to the largest sum of a row's magnitudes.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from catalogue.locate import locate
from schemas.names import Mixer
from schemas.settings import Settings
from tests.reference.explicit import run_library_module
from tests.tiny_architectures import ARCHITECTURES
from tests.tiny_models import one_thread
from workers.mixers import mixers_of
from workers.mixers.protocol import Capture, MixerTrace, Read, Weighting
from workers.models.loading import load
from workers.traces import TraceRequest
from workers.tracing import trace

# Further than the smallest blocks of any kernel.
FAR = 40
IDS = tuple(1 + index * 7 % 39 for index in range(100))
HEADS = (
    "architecture",
    "mixers",
    "reconstruction error",
    "matrix against reference",
    "row against reference",
    "moments against reference",
    "gradient-guided against autograd",
)


@dataclass(frozen=True)
class Errors:
    """One layer's errors, or the worst of several."""

    reconstruction: float
    matrix: float
    row: float
    moments: float
    gradient: float
    remembered: float
    """Largest weight of the matrix over at least `FAR` tokens, relative to the largest of all."""


COLUMNS = [field.name for field in fields(Errors) if field.name != "remembered"]


def measure(save: Callable[[Path], Path], root: Path) -> dict[int, tuple[Mixer, Errors]]:
    """By layer, of one architecture saved under `root`."""
    save(root / "model")
    settings = Settings(model_dir=root, device="cpu")
    loaded = load(locate("model", settings), settings)
    modules = mixers_of(loaded.model)
    layers = {layer.layer for layer in loaded.description.layers if layer.methods}
    [text] = trace(loaded, [TraceRequest(IDS, position=-3)], layers, layers)
    found = {}
    for layer in sorted(layers):
        mixer = text.mixers[layer]
        capture: Capture = mixer.capture  # type: ignore[attr-defined]
        errors = _errors(mixer, capture, modules[layer])
        found[layer] = (mixer.family, errors)
    return found


def worst(found: dict[int, tuple[Mixer, Errors]]) -> Errors:
    """The worst of the layers."""
    names = [field.name for field in fields(Errors)]
    return Errors(**{n: max(getattr(errors, n) for _, errors in found.values()) for n in names})


def _errors(mixer: MixerTrace, capture: Capture, module: torch.nn.Module) -> Errors:
    wanted = run_library_module(module, capture.hidden, capture.context, capture.gradient())
    kinds = list(Weighting)
    matrices = dict(zip(kinds, mixer.matrices(kinds), strict=True))
    summary = mixer.summary(kinds)
    row = torch.zeros(1, len(IDS))
    row[0, -3] = 1.0
    reads = mixer.read([Read(row, kind) for kind in kinds], len(IDS))
    pairs = torch.tril_indices(len(IDS), len(IDS))
    plain = wanted.matrix(weighted=False)
    moments = []
    for kind in kinds:
        weighted = wanted.pairs(kind is Weighting.GRADIENT)[:, pairs[0], pairs[1]]
        moments.append(_error(summary.spreads[kind], weighted.std(1, correction=0)))
        reference = wanted.matrix(kind is Weighting.GRADIENT)
        # A norm behind the mixer makes the gradient's sums cancel: their parts are the measure.
        difference = (summary.row_sums[kind].double() - reference.sum(1)).abs().max()
        moments.append(float(difference / reference.abs().sum(1).max()))
    return Errors(
        reconstruction=float(summary.reconstruction_error),
        matrix=_error(matrices[Weighting.PLAIN], plain),
        row=max(
            _error(read[0], wanted.matrix(kind is Weighting.GRADIENT)[-3])
            for kind, read in zip(kinds, reads, strict=True)
        ),
        moments=max(moments),
        gradient=_error(matrices[Weighting.GRADIENT], wanted.matrix(weighted=True)),
        remembered=float(plain.tril(-FAR).abs().max() / plain.abs().max()),
    )


def _error(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).abs().max() / wanted.abs().max())


def main() -> None:
    """Print the table."""
    print("| " + " | ".join(HEADS) + " |")
    print("|---|---|" + "---:|" * (len(HEADS) - 2))
    with one_thread():
        for name, (save, mixers) in ARCHITECTURES.items():
            with TemporaryDirectory() as root:
                errors = worst(measure(save, Path(root)))
            carried = ", ".join(dict.fromkeys(str(mixer) for mixer in mixers))
            cells = [f"{getattr(errors, name):.1e}" for name in COLUMNS]
            print(f"| `{name}` | {carried} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
