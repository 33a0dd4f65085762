"""The fields of a row: their allowed values, and the texts that reject others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from reprlib import repr as shortened

from peftbench.tasks.base import Row


def text_problem(row: Row, names: Iterable[str]) -> str:
    """Return a text that says which of the named fields is no text, or ''."""
    for name in names:
        if not is_text(row[name]):
            return f"{name} must be text, not {shortened(row[name])}"
    return ""


def is_text(value: object) -> bool:
    """Return whether a value is text that a tokenizer takes. JSON can hold lone surrogates, which it does not take."""
    return isinstance(value, str) and (
        value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    )


def class_id(value: object, labels: Sequence[str]) -> int | None:
    """Return the id of a class, given by name or by number (also as text, for CSV); None if there is no such class."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    names = labels if str(value) in labels else _numbers(labels)
    return names.index(str(value)) if str(value) in names else None


def class_problem(name: str, value: object, labels: Sequence[str]) -> str:
    """Return the reason why the value of the field `name` is no class, or ''."""
    if class_id(value, labels) is not None:
        return ""
    numbers = f" (or 0 to {len(labels) - 1})" if _numbers(labels) else ""
    return f"{name} is {shortened(value)}, not one of {', '.join(labels)}{numbers}"


def _numbers(labels: Sequence[str]) -> list[str]:
    """Return the numbers by which classes can be given; none if a number is also a name and could mean two classes."""
    numbers = [str(number) for number in range(len(labels))]
    return [] if set(numbers) & set(labels) else numbers
