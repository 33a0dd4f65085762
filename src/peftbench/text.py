"""All text that leaves, cleaned for where it goes: names and reasons come from files and packages of others."""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Any, Final

COMMANDS: Final = (
    *("add-mask", "add-matcher", "add-path", "debug", "echo", "endgroup", "error", "group", "notice"),
    *("remove-matcher", "save-state", "set-env", "set-output", "stop-commands", "warning"),
)
"""What a line of a GitHub job's log can tell its runner to do."""
READABLE: Final = "peftbench-readable"
"""Name of the handler that writes what an encoding lacks in ASCII."""

MASK: Final = "***"
"""Stands for a password or a token."""
_USER: Final = r"(?<=://)[^\s/?#]*@"
"""What stands before the host of an address: a name and a password, or a token."""
_QUERY: Final = r"(?P<address>://[^\s?#'\"`]*\?)[^\s#'\"`]+"
"""What follows the path of an address: signatures and tokens, as of a storage's links."""
_COMMAND: Final = rf"(?i):(?=:(?:{'|'.join(COMMANDS)})\b)|##(?=\[)"
_MARKDOWN: Final = r"[\\`*_\[\]|~]"
_ASCII: Final = MappingProxyType(
    {"\u2500": "-", "\u2502": "|", "\u2026": "...", "\u2013": "-", "\u2014": "-", "\u00b1": "+-", "\u00d7": "x"}
    | {"\u2192": "->", "\u2264": "<=", "\u2265": ">=", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
)
"""Lines of tables, an ellipsis, dashes, signs and quotation marks."""


class Destination(StrEnum):
    """Where text goes."""

    TERMINAL = "terminal"
    """Also a job's log, whose lines can be commands."""
    GITHUB = "github"
    """The message of a command of a job's log."""
    GITHUB_PROPERTY = "github property"
    """The title of one."""
    MARKDOWN = "markdown"
    EXPORT = "export"
    """Files for other programs."""


def clean(text: str, destination: Destination) -> str:
    """Return one line that shows a text where it goes, and does nothing else there.

    What is not printable (control characters, marks of direction, halves of characters) is written as its escape;
    then what would be markup or a command is escaped.
    """
    return _ESCAPED[destination](visible(text))


def visible(text: str) -> str:
    r"""Return the text with the escape of each character that is not printable: `\n`, `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def masked(text: str) -> str:
    """Return a text without the credentials of its addresses: `https://user:token@host/` is `https://***@host/`."""
    if "://" not in text:
        return text
    return re.sub(_QUERY, rf"\g<address>{MASK}", re.sub(_USER, f"{MASK}@", text))


def clean_tree(data: Any, destination: Destination) -> Any:  # noqa: ANN401 - JSON
    """Return JSON types in which every text, keys included, is clean."""
    if isinstance(data, str):
        return clean(data, destination)
    if isinstance(data, Mapping):
        return {clean(str(key), destination): clean_tree(value, destination) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [clean_tree(item, destination) for item in data]
    return data


def as_json(data: Any, *, indent: int = 1) -> str:  # noqa: ANN401 - JSON
    """Return clean JSON for other programs, a line that a job's log does not take for a command where it is printed."""
    return unmarked(json.dumps(clean_tree(data, Destination.EXPORT), indent=indent, allow_nan=False)) + "\n"


def unmarked(text: str) -> str:
    """Return the same JSON without the mark of a command of a job's log, which can stand within its texts only."""
    return text.replace("##[", r"#\u0023[")


def fitted(text: str, encoding: str) -> str:
    """Return the text as a terminal of an encoding can show it: what the encoding lacks is written in ASCII."""
    try:
        return text.encode(encoding, errors=READABLE).decode(encoding)
    except (LookupError, UnicodeError):  # no such encoding, or one that lacks ASCII
        return text


def _for_terminal(text: str) -> str:
    return re.sub(_COMMAND, lambda found: f"{found.group()} ", text)


def _for_github(text: str) -> str:
    return text.replace("%", "%25")


def _for_property(text: str) -> str:
    return _for_github(text).replace(":", "%3A").replace(",", "%2C")


def _for_markdown(text: str) -> str:
    """Return text that markdown shows as it is, and that calls nobody."""
    text = re.sub(_MARKDOWN, r"\\\g<0>", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@&#8203;")


_ESCAPED: Final[Mapping[Destination, Callable[[str], str]]] = MappingProxyType(
    {
        Destination.TERMINAL: _for_terminal,
        Destination.GITHUB: _for_github,
        Destination.GITHUB_PROPERTY: _for_property,
        Destination.MARKDOWN: _for_markdown,
        Destination.EXPORT: str,
    }
)
on_terminal: Final = partial(clean, destination=Destination.TERMINAL)
"""Clean a text for the terminal."""
in_markdown: Final = partial(clean, destination=Destination.MARKDOWN)
"""Clean a text for markdown."""


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_in_ascii, error.object[error.start : error.end])), error.end


def _in_ascii(character: str) -> str:
    if character in _ASCII:
        return _ASCII[character]
    letters = unicodedata.normalize("NFKD", character).encode("ascii", errors="ignore").decode()
    return letters or character.encode("unicode_escape").decode()


codecs.register_error(READABLE, _readable)
