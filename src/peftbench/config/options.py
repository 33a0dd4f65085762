"""The description of a setting. Each field of `Settings` carries one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from peftbench.config.parsing import boolean
from peftbench.errors import UserError, shown

T = TypeVar("T")

MOST_QUOTED: Final = 120
"""Longest value that an error quotes in full, in characters."""


class Question(StrEnum):
    """The question that an option answers. `pytest --help` has a section for each question."""

    WHAT = "what is measured"
    HOW = "how it is measured"
    MODEL = "model and data"
    STUDIES = "studies: trainings to a quality, serving and merging"
    GATE = "the gate: launches, baselines, other states of the code"
    OUTPUT = "output"
    MACHINES = "machines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """How one setting is given, how it is read, and what it is for."""

    help: str
    question: Question
    parse: Callable[[str], Any] = str
    metavar: str = "NAME"
    flag: bool = False
    """Whether the option is given without a value."""
    repeats: bool = False
    """Whether the option may be given several times. The values of all sources are joined, the strongest last."""
    identity: bool = False
    """Whether the setting changes measured numbers. Records with different values are not comparable."""
    added: bool = False
    """Whether records leave out the default: those of versions that had no such setting then stay comparable.

    Not where a protocol is chosen: what differs from it is then read off the record.
    """
    studies: bool = False
    """Whether the setting changes numbers of studies, and of studies only."""
    pools: bool = False
    """Whether a claim may be judged on studies with different values together."""
    parent: bool = False
    """Whether the setting is for the parent only. Its children do not get it."""
    launches: bool = False
    """Whether the setting makes the parent measure the cases in child processes."""


def option(default: T, help: str, question: Question, **how: Any) -> T:  # noqa: A002, ANN401 - argparse's word; `Option`'s fields
    """Return a dataclass field that is an option.

    Args:
        default: The default of the field.
        help: What the setting does, for `pytest --help`.
        question: The section of `pytest --help`.
        how: Further fields of `Option`.
    """
    return field(default=default, metadata={"option": Option(help=help, question=question, **how)})


def flag(help: str, question: Question, **how: bool) -> bool:  # noqa: A002 - argparse's own word
    """Return a dataclass field that is an option without a value. Its default is False."""
    return option(False, help, question, parse=boolean, flag=True, **how)  # noqa: FBT003 - the default


def flag_name(name: str) -> str:
    """Return the command-line spelling of a field: `--peftbench-batch-sizes`."""
    return "--peftbench-" + name.replace("_", "-")


def parsed(name: str, how: Option, given: object) -> object:
    """Return the value of an option that was given as text, number, boolean, or a list of these.

    Raises:
        UserError: the value cannot be read; the message says what is allowed.
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
