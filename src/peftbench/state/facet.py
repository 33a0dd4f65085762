"""One thing that a case can change for those after it: how it is read, put back, and told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from peftbench.text import visible

Tell = Callable[[Any, Any], str]
"""Says in a few words what became of a value, given what it was and what it is; '' where nobody need know."""

MOST_CHARACTERS: Final = 60
"""Of a value in a warning."""


def instead(before: object, after: object) -> str:
    """Say that there is another value."""
    return f"{shown(after)} instead of {shown(before)}"


def quiet(before: object, after: object) -> str:
    """Say nothing: what is put back is no fault."""
    del before, after
    return ""


def moved(before: Iterable[object], after: Iterable[object]) -> str:
    """Say which parts are new, and which are gone."""
    old, new = list(before), list(after)
    parts = [
        *(f"{shown(part)} added" for part in new if part not in old),
        *(f"{shown(part)} gone" for part in old if part not in new),
    ]
    return ", ".join(dict.fromkeys(parts)) or "in another order"


def shown(value: object) -> str:
    """Return a short name of a value, on one line."""
    name = getattr(value, "__name__", None)
    text = " ".join((name if isinstance(name, str) else str(value)).split())
    if text.startswith("<") and " at 0x" in text:
        text = type(value).__name__
    return visible(text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}...")


@dataclass(frozen=True, slots=True)
class Facet:
    """One thing that a case can change for those after it."""

    name: str
    """As it stands in a warning."""
    read: Callable[[], Any]
    """Returns the present value: nothing changes it later, and `==` compares it."""
    restore: Callable[[Any], object] | None
    """Puts a value back that was read before; None: it cannot be put back."""
    tell: Tell = instead


@dataclass(frozen=True, slots=True)
class Seen:
    """A facet, and its value at one moment."""

    facet: Facet
    value: Any


def look(facets: Iterable[Facet]) -> tuple[Seen, ...]:
    """Read all facets; one that this version of a library does not have is left out."""
    return tuple(seen for facet in facets for seen in _seen(facet))


def put_back(seen: Iterable[Seen]) -> tuple[str, ...]:
    """Put back what is no longer as it was seen, one facet after the other, and return what to tell, a line each.

    Nothing is raised: what cannot be read or put back is told, and the other facets are put back all the same.
    """
    return tuple(filter(None, map(_put_back, seen)))


def _seen(facet: Facet) -> Iterator[Seen]:
    try:
        yield Seen(facet, facet.read())
    except Exception:  # noqa: BLE001 - what cannot be read before a case cannot be compared after it
        return


def _put_back(seen: Seen) -> str:
    facet, before = seen.facet, seen.value
    try:
        after = facet.read()
        if after == before:
            return ""
        words = facet.tell(before, after)
    except Exception as error:  # noqa: BLE001 - a method may leave what cannot even be read
        words = f"it cannot be read, {_short(error)}"
    told = f"changed {facet.name}: {words}; "
    if facet.restore is None:
        return words and f"{told}the cases after it run with that"
    try:
        facet.restore(before)
        fine = facet.read() == before
    except Exception as error:  # noqa: BLE001 - the others are put back all the same
        return f"{told}cannot be put back, the cases after it run with that: {_short(error)}"
    return words and f"{told}{'put back after the case' if fine else 'could not be put back after the case'}"


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {shown(error)}"
