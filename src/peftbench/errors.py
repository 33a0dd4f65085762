"""The errors that are meant for people: one line, what is wrong, where, and what to do."""

from collections.abc import Iterable
from typing import Final

from peftbench.text import masked, visible

_LONGEST: Final = 120
"""Characters of a value that are quoted, and of a name that are compared with those that are known."""
LONGEST: Final = 4000
"""Characters of an error that are shown; of a longer one the middle is left out."""


class PeftbenchError(Exception):
    """Base of all errors that this package raises on purpose; its text is one line for a person."""

    def __str__(self) -> str:
        """Escape what would break the line or the terminal, leave out credentials, and cut what nobody reads."""
        text = super().__str__()
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
        return visible(masked(text))


class UserError(PeftbenchError):
    """What the user asked for cannot be done as asked (option, file, data): shown without a traceback."""


class UnsupportedError(PeftbenchError):
    """A method cannot do a task, a model or an operation: becomes a row with this reason, and the run goes on."""


class ValidityError(PeftbenchError):
    """A method does not train, merge or save what it claims to: becomes a row with this reason, never a time."""


def shown(value: object) -> str:
    """Return how a value that somebody gave is quoted in an error: as Python writes it, cut where it is long."""
    text = repr(value)
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a `name` that is not among the `known` ones, with the nearest name first."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name[:_LONGEST], names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {kind} {shown(name)}: {hint}known: {', '.join(names)}")
