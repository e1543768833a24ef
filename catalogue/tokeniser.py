"""Text to tokens and back, by the model's own tokenizer.json."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from catalogue.files import is_native_directory, read_file
from catalogue.native import TOKENIZER_ID
from schemas.problem import ProblemError, ProblemType
from schemas.result import Token

TOKENIZER_FILE = "tokenizer.json"
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Tokeniser:
    """One model's tokenizer. Never truncates, never pads."""

    tokenizer: Tokenizer
    unknown_id: int | None

    @classmethod
    def load(cls, path: Path) -> "Tokeniser":
        """The tokenizer of the model directory `path`.

        Raises ProblemError(MODEL_INVALID) when tokenizer.json is missing or broken.
        """
        file = path / TOKENIZER_FILE
        try:
            source = read_file(file).decode()
            tokenizer = Tokenizer.from_str(source)
        except FileNotFoundError:
            raise _invalid(path, f"the file is missing; {_remedy(path)}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise _invalid(path, f"the file cannot be read ({error})") from None
        except BaseException as error:
            _reraise_unless_refusal(error)
            raise _invalid(path, str(error)) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, _unknown_id(tokenizer, source))

    def encode(self, text: str) -> list[Token]:
        """The tokens of a text, with those that the tokenizer itself adds around it.

        `start` and `end` count characters. A token's text is what it covers of the source; one
        that covers nothing is shown as its own string. Tokens that share a character (the bytes
        of an emoji) show that same character. Raises ValueError when the tokenizer refuses it.
        """
        [encoding] = self._encoded(self.tokenizer.encode_batch, text)
        return [
            Token(
                id=token,
                text=text[start:end] or self.string(token),
                start=start,
                end=end,
                unknown=token == self.unknown_id and end > start,
            )
            for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def ids(self, text: str) -> list[int]:
        """The ids that `encode` gives, without building its tokens; raises what it raises."""
        ids: list[int] = self._fast(text).ids
        return ids

    def count(self, text: str) -> int:
        """How many tokens `encode` would give, without building them; raises what it raises."""
        return len(self._fast(text))

    def single_token(self, string: str) -> int:
        """The id of the one token that `string` is, exactly as written.

        Raises ValueError, saying how many tokens it is or that the vocabulary lacks it.
        """
        ids = self._fast(string, add_special_tokens=False).ids
        if len(ids) != 1:
            parts = ", ".join(repr(self.string(token)) for token in ids[:8])
            shown = f": {parts}{', ...' if len(ids) > 8 else ''}" if ids else ""
            spaced = self._fast(f" {string}", add_special_tokens=False).ids
            hint = f"; with a space before it, {f' {string}'!r} is one" if len(spaced) == 1 else ""
            raise ValueError(f"{string[:40]!r} is {len(ids)} tokens to this model{shown}{hint}")
        if ids[0] == self.unknown_id:
            raise ValueError(f"{string[:40]!r} is not in this model's vocabulary")
        return int(ids[0])

    def string(self, token: int) -> str:
        """The readable string of a token id, its leading space kept: ` Paris`, not `ĠParis`."""
        raw = self.tokenizer.id_to_token(token)
        if raw is None:
            return f"<{token}>"  # an id that only pads the embedding has no string
        if raw.startswith("▁"):
            return raw.replace("▁", " ")
        decoded = str(self.tokenizer.decode([token], skip_special_tokens=False))
        # A part of a character's bytes decodes to nothing a person can read: show its raw string.
        return raw if not decoded or _REPLACEMENT in decoded else decoded

    def _fast(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """The encoding without its offsets, in a third of the time."""
        [encoding] = self._encoded(self.tokenizer.encode_batch_fast, text, add_special_tokens)
        return encoding

    @staticmethod
    def _encoded(
        encode: Callable[..., list[Encoding]], text: str, add_special_tokens: bool = True
    ) -> list[Encoding]:
        # A batch of one: `Tokenizer.encode` holds the GIL, and so every other thread, for seconds.
        try:
            return encode([text], add_special_tokens=add_special_tokens)
        except BaseException as error:
            _reraise_unless_refusal(error)
            raise ValueError(f"its {TOKENIZER_FILE} refuses it ({error})") from None


def _reraise_unless_refusal(error: BaseException) -> None:
    """Let through what tokenizers did not raise.

    It raises a bare Exception for a file that it cannot parse and for a word without a token, and a
    panic, which is none, for an expression that runs too long.
    """
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error


def _unknown_id(tokenizer: Tokenizer, source: str) -> int | None:
    """The id that stands for words outside the vocabulary; None for tokenizers without one."""
    if hasattr(tokenizer.model, "unk_token"):
        name = tokenizer.model.unk_token
        return None if name is None else tokenizer.token_to_id(name)
    # Unigram models keep an index, which the bindings do not show.
    unknown = json.loads(source)["model"].get("unk_id")
    return None if unknown is None else int(unknown)


def _remedy(path: Path) -> str:
    if is_native_directory(path):
        return f"put the {TOKENIZER_FILE} of `{TOKENIZER_ID}` there"
    return "save the fast tokenizer"


def _invalid(path: Path, why: str) -> ProblemError:
    return ProblemError(
        ProblemType.MODEL_INVALID,
        f"The {TOKENIZER_FILE} of the model directory `{path.name}` is not usable: {why}.",
    )
