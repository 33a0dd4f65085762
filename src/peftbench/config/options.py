"""What a setting is besides its value: all of it is said once, at the field of `Settings`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from peftbench.config.parsing import boolean
from peftbench.errors import UserError, shown

T = TypeVar("T")

MOST_QUOTED: Final = 120
"""Characters of a value that an error quotes."""


class Question(StrEnum):
    """The question that an option answers: `pytest --help` has a section for each."""

    WHAT = "what is measured"
    HOW = "how it is measured"
    MODEL = "model and data"
    STUDIES = "studies: trainings to a quality, and serving"
    GATE = "the gate: launches, baselines, other states of the code"
    OUTPUT = "output"
    MACHINES = "machines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One setting: how it is given, how it is read, and what it is for."""

    help: str
    question: Question
    parse: Callable[[str], Any] = str
    metavar: str = "NAME"
    flag: bool = False
    """Whether it is given without a value."""
    repeats: bool = False
    """Whether it may be given several times; what several sources give is read as one list, the most important last."""
    identity: bool = False
    """Whether it changes a number: records taken under another value are not comparable."""
    studies: bool = False
    """Whether it changes a number of studies only."""
    pools: bool = False
    """Whether studies taken under different values may be judged together: it says what more is tried."""
    parent: bool = False
    """Whether it is for the run that the user started alone, and not for the processes that this one starts."""
    launches: bool = False
    """Whether it has the cases measured in processes of their own."""


def option(default: T, help: str, question: Question, **how: Any) -> T:  # noqa: A002, ANN401 - argparse's word; `Option`'s fields
    """Return a dataclass field of this default that is an option.

    Args:
        default: The field's, of the field's type.
        help: What the setting does, for `pytest --help`.
        question: Its section there.
        how: Further fields of `Option`.
    """
    return field(default=default, metadata={"option": Option(help=help, question=question, **how)})


def flag(help: str, question: Question, **how: bool) -> bool:  # noqa: A002 - argparse's own word
    """Return a dataclass field, False by default, that is an option without a value."""
    return option(False, help, question, parse=boolean, flag=True, **how)  # noqa: FBT003 - the default


def flag_name(name: str) -> str:
    """Return the command-line spelling of a field: `--peftbench-batch-sizes`."""
    return "--peftbench-" + name.replace("_", "-")


def parsed(name: str, how: Option, given: object) -> object:
    """Return the value of an option that was given as text, number, boolean, or a list of these.

    Raises:
        UserError: it cannot be read; says what is allowed.
    """
    parts = list(given) if isinstance(given, list | tuple) else [given]
    if not all(isinstance(part, str | int | float) for part in parts):
        raise UserError(
            f"{flag_name(name)}: must be text, a number, true or false, or a list of these, not {shown(given)}"
        )
    text = ",".join(map(str, parts))
    quoted = text if len(text) <= MOST_QUOTED else shown(text)
    try:
        value = how.parse(text)
    except (ValueError, UserError) as error:
        raise UserError(f"{flag_name(name)}={quoted}: {error}; {how.help}") from None
    if value == ():
        raise UserError(f"{flag_name(name)}={quoted}: names nothing; {how.help}")
    return value
