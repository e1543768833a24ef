"""Strings of others made fit for a terminal."""

from rich.cells import cell_len, set_cell_size


def visible(string: str) -> str:
    """The same with what does not print, such as a terminal's escapes, written as `\\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in string)


def shortened(string: str, width: int) -> str:
    """At most so many columns, the last one an ellipsis where something was left out."""
    if cell_len(string) <= width:
        return string
    return set_cell_size(string, width - 1).rstrip() + "\u2026"


def quoted(token: str) -> str:
    """A token in quotation marks, so that the space that many begin with is seen."""
    return f'"{visible(token)}"'


def counted(number: int, what: str) -> str:
    """A number and what it counts, in the plural but for one."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
