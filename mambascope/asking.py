"""From what was typed to a request, and from the pointers of its errors back to the flags."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mambascope.arguments import Arguments
from mambascope.texts import (
    STDIN,
    Sourced,
    decoded,
    label,
    parsed,
    read_bytes,
    read_texts,
)
from mambascope.usage import UsageProblem

# Each flag that stands for one field of the request: its pointer, and the argument's name.
_FIELDS = {
    "--models": ("/models", "models"),
    "--layers": ("/layers", "layers"),
    "--target-position": ("/target/position", "target_position"),
    "--target-token": ("/target/token", "target_token"),
    "--contrast": ("/target/contrast", "contrast"),
    "--attention-layers": ("/attention/layers", "attention_layers"),
    "--attention-methods": ("/attention/methods", "attention_methods"),
    "--rows": ("/attention/rows", "rows"),
    "--top-k": ("/neurons/top_k", "top_k"),
    "--figures": ("/figures", "figures"),
    "--tensors": ("/tensors", "tensors"),
    "--seed": ("/seed", "seed"),
}
_SWITCHES = {"--enable-attention": "attention", "--neurons": "neurons"}


@dataclass(frozen=True)
class Asked:
    """A request, and what each part of it came from."""

    body: dict[str, Any]
    origins: dict[str, str]

    def origin(self, pointer: str) -> str | None:
        """The flag, or the line of a file, behind a JSON pointer into the request."""
        while pointer:
            if pointer in self.origins:
                return self.origins[pointer]
            pointer = pointer.rpartition("/")[0]
        return None


def asked(arguments: Arguments) -> Asked:
    """The request that was typed. Raises UsageProblem."""
    files = [given.value for given in arguments.texts or [] if given.is_file]
    if [arguments.request, *files].count(STDIN) > 1:
        raise UsageProblem("Standard input can be read once: give one of the files a name.")
    origins = {pointer: flag for flag, (pointer, _) in _FIELDS.items()}
    origins |= {f"/{section}": flag for flag, section in _SWITCHES.items()} | {"/texts": "--texts"}
    request = Asked(_from_file(arguments), origins)
    for section in request.body:
        for pointer in [p for p in origins if p == f"/{section}" or p.startswith(f"/{section}/")]:
            del origins[pointer]
        origins[f"/{section}"] = f"--request {arguments.request}"
    _put_switches(request, arguments)
    _put_fields(request, arguments)
    _put_texts(request, arguments)
    return request


def _from_file(arguments: Arguments) -> dict[str, Any]:
    name = arguments.request
    if name is None:
        return {}
    value = parsed(decoded(read_bytes(name), name), label(name))
    if not isinstance(value, dict):
        raise UsageProblem(f"{label(name)}: give a JSON object, as POST /v1/jobs takes it.")
    return value


def _put_switches(request: Asked, arguments: Arguments) -> None:
    """Sections switched on and off. Raises UsageProblem for flags of one that is off."""
    for flag, section in _SWITCHES.items():
        wanted = getattr(arguments, section)
        if wanted is None:
            continue
        request.origins[f"/{section}"] = flag
        if wanted and request.body.get(section) is None:
            request.body[section] = {}
        elif not wanted:
            request.body[section] = None
            for other, (pointer, name) in _FIELDS.items():
                if pointer.startswith(f"/{section}/") and getattr(arguments, name) is not None:
                    raise UsageProblem(f"{other} asks for what --no-{flag[2:]} switches off.")


def _put_fields(request: Asked, arguments: Arguments) -> None:
    for flag, (pointer, name) in _FIELDS.items():
        value = getattr(arguments, name)
        if value is None:
            continue
        if "all" in (value if isinstance(value, list) else ()):
            if len(value) > 1:
                raise UsageProblem(f"{flag}: give layer indices, or `all` alone.")
            value = "all"
        *sections, field = pointer[1:].split("/")
        place = request.body
        for section in sections:
            place[section] = {} if place.get(section) is None else place[section]
            place = place[section]
            if not isinstance(place, dict):
                raise UsageProblem(f"--request: `{section}` is no object.")
        place[field] = value
        request.origins[pointer] = flag


def _put_texts(request: Asked, arguments: Arguments) -> None:
    if arguments.texts is not None:
        texts = list(_texts(arguments))
        request.body["texts"] = [sourced.text for sourced in texts]
        request.origins["/texts"] = "--texts"
        request.origins.update(
            (f"/texts/{index}", sourced.source) for index, sourced in enumerate(texts)
        )
    elif "texts" not in request.body:
        raise UsageProblem("Give texts: --texts FILE, --texts - for standard input, or --text.")


def _texts(arguments: Arguments) -> Iterator[Sourced]:
    for given in arguments.texts or []:
        if given.is_file:
            yield from read_texts(given.value)
        else:
            try:
                given.value.encode()
            except UnicodeEncodeError as error:
                raise UsageProblem("--text: what was typed is not UTF-8.") from error
            yield Sourced(given.value, "--text")


def given_flags(arguments: Arguments) -> list[str]:
    """The flags about a request that were typed."""
    names = {flag: name for flag, (_, name) in _FIELDS.items()}
    names |= _SWITCHES | {"--texts": "texts", "--request": "request"}
    return [flag for flag, name in names.items() if getattr(arguments, name) is not None]
