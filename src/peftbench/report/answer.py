"""The answer at the end of a run: a row for each method over all tasks and batch sizes, then a few sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from peftbench.claims.evidence import target_of
from peftbench.claims.recommend import Choice, recommend
from peftbench.claims.standing import INFERENCE, TRAINING, Standings, Summary, standings
from peftbench.records.shards import NOTE
from peftbench.report import facts
from peftbench.report.numbers import counted, megabytes, percentage
from peftbench.report.page import page, written
from peftbench.report.recommendation import score
from peftbench.report.table import GAP, Column, drawn, filled, fitting
from peftbench.report.terminal import blocks, foot, gives_range, head, holes
from peftbench.report.x_full import FULL
from peftbench.studies.training.results import trainings
from peftbench.text import on_terminal

if TYPE_CHECKING:
    from peftbench.records.record import Run

BEST: Final = "*"
WORST: Final = "!"
HEAD: Final = 3
"""Number of lines of a table's head that concern the whole run: machine, model, versions."""
MOST_HOLES: Final = 12
"""Most reasons of missing numbers that are printed."""
TITLES: Final = {
    "memory": "memory",
    "trained": "trained %",
    "checkpoint": "disk MB",
    "energy": "energy",
    "busy": "busy %",
}
RANKS: Final = {TRAINING: 0, INFERENCE: 0, "memory": 0, "trained": 1, "checkpoint": 2, "energy": 1, "busy": 1}
"""Name of a quantity -> rank of its column. The columns of other workloads have the highest rank."""
OTHERS: Final = 5
RANGE: Final = "range"
TO_TARGET: Final = "to target"
"""Titles of columns that are no quantities of their own."""


@dataclass(frozen=True)
class Answer:
    """The answer of one run."""

    run: Run

    @cached_property
    def found(self) -> Standings:
        """The standings of the methods."""
        return standings(self.run.records)

    @cached_property
    def ranked(self) -> Sequence[Choice]:
        """The methods ranked by cost to quality; empty if the run has no trainings."""
        if not trainings(self.run.records):
            return ()
        return recommend([self.run], "cost-to-quality", target=target_of(None, [self.run]))

    @cached_property
    def sentences(self) -> list[str]:
        """What follows from the numbers, at most `facts.MOST_SENTENCES` sentences."""
        return facts.sentences(self.run, self.found, self.ranked) if self.compares else []

    @cached_property
    def columns(self) -> list[Column]:
        """The columns of the table of methods that are not empty. Their rows are names of methods."""
        return filled(_columns(self), list(self.found.methods))

    @cached_property
    def legend(self) -> list[str]:
        """What the table shows: groups, the meaning of 1.00, marks and intervals."""
        return _legend(self)

    @property
    def compares(self) -> bool:
        """Whether at least two methods have a number."""
        known = {method for method, mine in self.found.methods.items() if mine}
        return len(known | {choice.method for choice in self.ranked}) > 1

    @property
    def blocks(self) -> int:
        """Number of tables that `terminal.render` prints for benchmarks with rounds."""
        return len(blocks(record for record in self.run.records if not record.variant))

    def render(self, *, width: int, color: bool = False, folded: bool = False) -> str:
        """Return the answer as text, no line longer than `width`; '' for studies that compare no methods.

        Args:
            width: Characters of the terminal.
            color: Whether escape sequences may be used.
            folded: Whether it stands for the blocks. It then has what else they say: machine, versions, time of the
                run, and the reasons of missing numbers.
        """
        console = page(width=width, color=color)

        def say(*lines: str) -> None:
            for line in lines:
                console.print(on_terminal(line))

        if folded:
            say(*head(self.run)[:HEAD])
        say(*(self.legend if self.compares else _without_rows(self)))
        if self.compares:
            methods = list(self.found.methods)
            columns = fitting(self.columns, [methods], width, GAP)
            console.print()
            console.print(drawn(columns, methods, lined=False, bold=True))
        say(*_missed(self.ranked), *(_reasons(self.run) if folded else ()))
        if self.sentences:
            say("", *self.sentences)
        if folded:
            say("", *foot(self.run))
        return written(console)

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON types. An unknown end of an interval is null."""
        methods = [
            {"method": method, **{name: _plain(one) for name, one in mine.items()}}
            for method, mine in self.found.methods.items()
        ]
        return {"against": self.found.reference, "methods": methods, "sentences": self.sentences}


def _without_rows(answer: Answer) -> list[str]:
    """Return why no methods are compared."""
    measured = [method for method, (ok, _) in answer.found.cases.items() if ok]
    if not measured:
        return [f"No case has numbers: {counted(len(answer.run.records), 'case')}, none of them ok."]
    if len(answer.found.methods) == 1:
        timed = measured != [FULL] and any("ratio" in record.metrics for record in answer.run.records)
        with_full = ": with full in --peftbench-methods its costs are against full" if timed else ""
        return [f"One method was measured ({measured[0]}), so nothing is compared{with_full}."]
    return [f"One method has numbers ({measured[0]}), so nothing is compared."] if len(measured) == 1 else []


def _legend(answer: Answer) -> list[str]:
    found = answer.found
    where = "one task and batch size" if found.places == 1 else f"{found.places} groups (task and batch size)"
    against = "full fine-tuning" if found.reference == FULL else "the base step"
    mean = "" if found.places == 1 else "; geometric means, and ranges over the groups"
    few = ", of fewer than six their range" if any(map(gives_range, answer.run.records)) else ""
    over = f"over {found.launches} launches" if found.launches > 1 else f"over the rounds of one launch{few}"
    part: dict[str, Any] = answer.run.notes.get(NOTE) or {}
    return [
        *([f"{where}: cost against {against}, 1.00{mean}".capitalize()] if found.quantities else []),
        f"{BEST} best, {WORST} worst; methods that cannot be told apart share a mark; [ ] 95 % interval {over}",
        *([f"part {part['part']} of {part['parts']} of the cases; `peftbench merge` joins the parts"] if part else []),
    ]


def _missed(ranked: Sequence[Choice]) -> list[str]:
    """Return a line for each method that missed the target quality."""
    lost = [(choice.method, filter(None, [score(choice), choice.reason])) for choice in ranked if not choice.reached]
    return [f"  {method}: to target: {', '.join(parts)}" for method, parts in lost]


def _reasons(run: Run) -> list[str]:
    """Return a line for each reason why there are no numbers, up to a limit."""
    lost = holes(run.records)
    more = len(lost) - MOST_HOLES
    return lost if more <= 0 else [*lost[:MOST_HOLES], f"  ... and {counted(more, 'reason')} more"]


def _columns(answer: Answer) -> list[Column]:
    found = answer.found
    columns = [Column("method", str, text=True, folds=True)]
    for quantity in found.quantities:
        name, factor = quantity.name, quantity.factor
        rank = RANKS.get(name, OTHERS)
        best, worst = found.extremes(quantity)
        show = SHOWN.get(name, "{:.2f}".format)
        columns.append(Column(TITLES.get(name, name), _cell(found, name, show, best, worst), rank))
        if quantity.metric == "ratio" and factor and found.places > 1:
            columns.append(Column(RANGE, _range(found, name), OTHERS if rank else 3 + (name == INFERENCE)))
    columns.append(Column(TO_TARGET, _to_target(answer), text=True))
    columns.append(Column("cases", _cases(found), rank=1))
    return columns


def _cell(
    found: Standings, name: str, show: Callable[[float], str], best: frozenset[str], worst: frozenset[str]
) -> Callable[[str], str]:
    def cell(method: str) -> str:
        one = found.methods[method].get(name)
        mark = BEST if method in best else WORST if method in worst else " "
        return f"{show(one.mean.value)}{mark}" if one else ""

    return cell


def _range(found: Standings, name: str) -> Callable[[str], str]:
    def cell(method: str) -> str:
        one = found.methods[method].get(name)
        return "" if one is None or one.blocks == 1 or method == FULL else f"{one.least:.2f}-{one.most:.2f}"

    return cell


def _to_target(answer: Answer) -> Callable[[str], str]:
    choices = {choice.method: choice for choice in answer.ranked}

    def cell(method: str) -> str:
        choice = choices.get(method)
        return "" if choice is None else score(choice) if choice.reached else f"{score(choice)} missed".strip()

    return cell


def _cases(found: Standings) -> Callable[[str], str]:
    """Return the number of cases with numbers of a method that has less than all."""

    def cell(method: str) -> str:
        measured, asked = found.cases[method]
        return "" if measured == asked else f"{measured} of {asked}"

    return cell


def _plain(one: Summary) -> dict[str, Any]:
    low, high = one.mean.low, one.mean.high
    return {
        "mean": one.mean.value,
        "low": low if low > 0 else None,
        "high": high if high < float("inf") else None,
        "least": one.least,
        "most": one.most,
        "blocks": one.blocks,
    }


SHOWN: Final[dict[str, Callable[[float], str]]] = {"trained": percentage, "busy": percentage, "checkpoint": megabytes}
