"""A model of the 130M shape with random weights, as a directory that the service can load."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

from schemas.settings import Settings

MODELS = Path(__file__).parent / "results" / "models"
TEXT = "The quick brown fox jumps over the lazy dog. "


@dataclass(frozen=True)
class Shape:
    """So many layers of the 130M shape."""

    layers: int = 24

    @property
    def name(self) -> str:
        """The name by which a job asks for it."""
        return f"mamba-130m-shape-{self.layers}-layers"

    @property
    def read(self) -> tuple[int, ...]:
        """The layers that a job reads unless it names others."""
        return tuple(range(0, self.layers, self.layers // 4))

    @property
    def told(self) -> str:
        return "130M shape" + ("" if self == WHOLE else f" with {self.layers} layers")

    @property
    def directory(self) -> Path:
        """The model's directory, written on first use: half a gigabyte for all layers."""
        path = MODELS / self.name
        if not path.exists():
            draft = MODELS / f".{self.name}"
            draft.mkdir(parents=True, exist_ok=True)
            torch.manual_seed(0)
            config = MambaConfig(
                vocab_size=50280, hidden_size=768, num_hidden_layers=self.layers, state_size=16
            )
            MambaForCausalLM(config).save_pretrained(draft)
            _one_token_a_byte().save(str(draft / "tokenizer.json"))
            draft.rename(path)
        return path

    @property
    def settings(self) -> Settings:
        """Settings that know the model, on the CPU."""
        return Settings(model_dir=self.directory.parent, device="cpu")


WHOLE = Shape()


def shape(quick: bool) -> Shape:
    """What is measured on: in a quick run fewer layers, which are run in a sixth of the time."""
    return Shape(4) if quick else WHOLE


def gpt2_shape() -> str:
    """The name of a model of GPT-2's shape, in the same directory; written on first use."""
    name = "gpt2-124m-shape"
    path = MODELS / name
    if not path.exists():
        draft = MODELS / f".{name}"
        draft.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config()).save_pretrained(draft)
        _one_token_a_byte().save(str(draft / "tokenizer.json"))
        draft.rename(path)
    return name


def text(tokens: int) -> str:
    """A text of so many characters, each of which is one token."""
    return (TEXT * (tokens // len(TEXT) + 1))[:tokens]


def _one_token_a_byte() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
