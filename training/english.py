"""Train `pocket/english-mamba`: a small Mamba over the English of the King James Bible.

`python -m training.english --output DIR --seed 0` fetches the text (training/english_text.py says
what that needs), learns a tokenizer, trains and writes a Hugging Face directory
and its model card. `--checkpoint FILE` keeps the state of the training and goes on from it.
"""

import argparse
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import MambaForCausalLM, PreTrainedTokenizerFast

from training.english_card import Measured, Run, model_card
from training.english_check import bits_by_book, bits_per_byte, compression, continuations
from training.english_recipe import Recipe
from training.english_text import EnglishText, TextUnavailableError, english_text
from training.english_tokenizer import english_tokenizer
from training.english_training import new_model, train
from workers.kernels import mamba

# Half of float32's bytes, and eleven significant bits where bfloat16 keeps eight.
STORED = torch.float16


def rounded(model: MambaForCausalLM) -> MambaForCausalLM:
    """The model as it will be read back: its weights rounded to `STORED`, in float32."""
    return model.to(STORED).float()


def measure(model: MambaForCausalLM, tokenizer: Tokenizer, text: EnglishText) -> Measured:
    """Everything that the card states, on the held-out books."""
    with mamba.installed():
        bits = bits_by_book(model, tokenizer, text.held_out)
        said = continuations(model, tokenizer)
    sizes = {name: len(book.encode()) for name, book in text.held_out.items()}
    return Measured(
        bits_per_byte=bits_per_byte(bits, text.held_out),
        by_book={name: (sizes[name], bits[name] / sizes[name]) for name in bits},
        compression=compression(text),
        continuations=said,
    )


def save(model: MambaForCausalLM, tokenizer: Tokenizer, output: Path) -> None:
    """Weights in float16, configuration and tokenizer as a Hugging Face directory."""
    output.mkdir(parents=True, exist_ok=True)
    model.to(STORED).save_pretrained(output)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(output)
    (output / "model.safetensors").chmod(0o644)


def main() -> None:
    """Fetch, train, round, measure, write the directory and its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="file to keep the training's state in")
    arguments = parser.parse_args()
    # One thread: reductions add up in the same order on every run.
    torch.set_num_threads(1)
    try:
        text = english_text()
    except TextUnavailableError as error:
        sys.exit(f"The text cannot be had here: {error}")
    recipe, tokenizer = Recipe(), english_tokenizer(text.training)
    tokens = torch.tensor([i for e in tokenizer.encode_batch(text.training) for i in e.ids])
    model = new_model(recipe, tokenizer.get_vocab_size(), arguments.seed)
    trained = train(model, tokens, recipe, arguments.seed, arguments.checkpoint)
    measured = measure(rounded(model), tokenizer, text)
    save(model, tokenizer, arguments.output)
    run = Run(recipe, arguments.seed, trained, model.num_parameters(), len(tokens))
    card = model_card(run, measured, text, tokenizer)
    (arguments.output / "README.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()
