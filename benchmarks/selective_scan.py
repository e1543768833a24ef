"""The compiled selective scan inside a whole Mamba against transformers' own scans, on the CPU.

`python -m benchmarks.selective_scan [--json PATH]`: the shape of mamba-130m with random weights.
Forward at 1,024 tokens and forward with the gradient of one logit at 256 tokens, each with the
compiled scan, with transformers' fallback, and with `use_mambapy=True` if mambapy is installed.
The runs are interleaved, and the medians compared, so that a busy machine slows all of them.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import MambaConfig, MambaForCausalLM
from transformers.utils.import_utils import is_mambapy_available

from workers.kernels import mamba

FORWARD_TOKENS, GRADIENT_TOKENS = 1024, 256
PROMISES = {
    "forward, fallback": 2.5,
    "gradient, fallback": 10.0,
    "gradient, mambapy": 2.0,
}


def model_130m() -> MambaForCausalLM:
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=50280, hidden_size=768, num_hidden_layers=24, state_size=16)
    return MambaForCausalLM(config).eval().requires_grad_(False)


def forward(model: MambaForCausalLM) -> None:
    ids = torch.arange(FORWARD_TOKENS)[None]
    with torch.no_grad():
        model(ids, use_cache=False, logits_to_keep=1)


def gradient(model: MambaForCausalLM) -> None:
    embeddings = model.get_input_embeddings()(torch.arange(GRADIENT_TOKENS)[None])
    embeddings.requires_grad_()
    logits = model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=1).logits
    torch.autograd.backward(logits[0, -1, 7])


def with_compiled(model: MambaForCausalLM, work: Callable[[MambaForCausalLM], None]) -> None:
    with mamba.installed():
        work(model)


def with_fallback(model: MambaForCausalLM, work: Callable[[MambaForCausalLM], None]) -> None:
    work(model)


def with_mambapy(model: MambaForCausalLM, work: Callable[[MambaForCausalLM], None]) -> None:
    mixers = [layer.mixer for layer in model.backbone.layers]
    for mixer in mixers:
        mixer.use_mambapy = True
    try:
        work(model)
    finally:
        for mixer in mixers:
            mixer.use_mambapy = False


def measure(rounds: int) -> dict[str, float]:
    """Median seconds per pass and scan, over interleaved rounds after one warm-up of the kernel."""
    scans = {"compiled": with_compiled, "fallback": with_fallback}
    if is_mambapy_available():
        scans["mambapy"] = with_mambapy
    else:
        print("mambapy is not installed: its comparison is skipped")
    model = model_130m()
    passes = {"forward": forward, "gradient": gradient}
    for work in passes.values():
        with_compiled(model, work)
    seconds: dict[str, list[float]] = {f"{w}, {s}": [] for w in passes for s in scans}
    for _ in range(rounds):
        for work_name, work in passes.items():
            for scan_name, run in scans.items():
                started = time.perf_counter()
                run(model, work)
                seconds[f"{work_name}, {scan_name}"].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    medians = measure(arguments.rounds)
    ratios = {
        name: value / medians[f"{name.split(',')[0]}, compiled"]
        for name, value in medians.items()
        if not name.endswith("compiled")
    }
    print(f"mamba-130m shape, random weights, {torch.get_num_threads()} threads")
    print(f"forward at {FORWARD_TOKENS} tokens, gradient of one logit at {GRADIENT_TOKENS} tokens")
    for name, value in medians.items():
        ratio = f"  {ratios[name]:5.1f}x the compiled time" if name in ratios else ""
        goal = f" (goal >= {PROMISES[name]}x)" if name in PROMISES else ""
        print(f"{name:20} {value:8.3f} s{ratio}{goal}")
    if arguments.json:
        found = {"seconds": medians, "ratios": ratios, "promises": PROMISES}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
