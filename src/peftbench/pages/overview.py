"""The first look at a page: the answer of each run, what got slower, and one chart of all methods' costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from peftbench.claims.intervals import Interval
from peftbench.claims.standing import INFERENCE, TRAINING
from peftbench.pages.guard import ComparisonPart
from peftbench.pages.plots import Plot
from peftbench.pages.sources import NamedFile
from peftbench.records.record import Run
from peftbench.report.answer import RANGE, TO_TARGET, Answer
from peftbench.report.numbers import between
from peftbench.report.table import Column
from peftbench.report.x_full import FULL

SHOWN: Final = {TRAINING: "time of a training step", INFERENCE: "time of inference", "memory": "memory of training"}
"""Quantity -> name in the chart of all methods."""
MOST_SLOWER: Final = 5
"""Most cases that got slower of which the first look tells."""


@dataclass(frozen=True, slots=True)
class Headline:
    """One question that the first screen answers."""

    question: str
    answer: str
    """The answer in one sentence."""
    more: Sequence[str] = ()
    """Further sentences."""
    bad: bool = False
    """Whether the answer needs somebody to act."""


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """One row a method over all tasks and batch sizes of a run, as at the end of the run."""

    run: str
    about: Sequence[str]
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    """Method and cells of each row, the cheapest method first."""


def headlines(runs: Sequence[NamedFile[Run]], comparisons: Sequence[ComparisonPart]) -> list[Headline]:
    """Return the questions that the files answer."""
    return [*(_cheapest(run, alone=len(runs) == 1) for run in runs), *map(_slower, comparisons)]


def tables(runs: Sequence[NamedFile[Run]]) -> Iterator[AnswerTable]:
    """Yield the table of each run that compares methods."""
    for run in runs:
        answer = Answer(run.content)
        if answer.compares:
            columns = _wanted(answer.columns)
            rows = [[one.cell(method).strip() for one in columns] for method in cheapest_first(answer)]
            yield AnswerTable(run.name, answer.legend, [one.title for one in columns], rows)


def _wanted(columns: Sequence[Column]) -> list[Column]:
    """Return the columns of the page: the cost to the target is the first, and the chart draws the ranges."""
    method, *others = columns
    return [method, *sorted((one for one in others if one.title != RANGE), key=lambda one: one.title != TO_TARGET)]


def cheapest_first(answer: Answer) -> list[str]:
    """Return the methods: first those that reached the target, by their cost, then by the time of a training step.

    Where there are no training steps, another quantity of the chart takes their place.
    """
    found = answer.found
    ranks = {choice.method: rank for rank, choice in enumerate(answer.ranked) if choice.reached}
    name = next((one.name for one in found.quantities if one.name in SHOWN), "")

    def order(method: str) -> tuple[float, float]:
        one = found.methods[method].get(name)
        return ranks.get(method, math.inf), math.inf if one is None else one.mean.value

    return sorted(found.methods, key=order)


def _cheapest(named: NamedFile[Run], *, alone: bool) -> Headline:
    where = "" if alone else f" in {named.name}"
    answer = Answer(named.content)
    if not answer.compares:
        return Headline(f"Which method is cheapest{where}?", "These runs compare no two methods.")
    sentences = answer.sentences
    ranked = [choice for choice in answer.ranked if choice.reached and choice.method != FULL]
    if ranked:
        return Headline(f"Which method is cheapest at equal quality{where}?", sentences[0], sentences[1:])
    found = answer.found
    name = next((one.name for one in found.quantities if one.name in SHOWN), "")
    comparable = found.complete(name)
    if not comparable:
        return Headline(f"Which method is cheapest{where}?", "No two methods have a time in the same cases.", sentences)
    best, _ = found.extremes(next(one for one in found.quantities if one.name == name))
    first = min(comparable, key=lambda method: comparable[method].mean.value)
    alike = sorted(best - {first})
    against = "full fine-tuning's" if found.reference == FULL else "the base step's"
    said = f"{first}: {between(comparable[first].mean)} of {against} {SHOWN[name]}"
    if first == FULL:
        said = f"full fine-tuning: no other method takes less {SHOWN[name]}"
    if alike:
        said += f"; not told apart from it: {', '.join(alike)}"
    return Headline(f"Which method is cheapest a step{where}?", f"{said}.", sentences)


def _slower(part: ComparisonPart) -> Headline:
    question = "What got slower, by how much, and why?"
    if part.worst is None:
        return Headline(question, part.headline, [part.counts, *([part.sensitivity] if part.sensitivity else [])])
    others = [f"{row.id}: {row.why}" for row in part.rows[1:MOST_SLOWER] if row.verdict == part.worst.verdict]
    return Headline(question, f"{part.worst.id}: {part.worst.why}", [*others, part.headline], bad=True)


def plot(runs: Sequence[NamedFile[Run]]) -> Plot:
    """Return the chart of all methods' costs against full fine-tuning."""
    return Plot(
        "overview",
        "Costs against full fine-tuning",
        "Each point is a method's mean over all tasks and batch sizes (geometric), its line the range of these. Left "
        "of the dashed line a method is cheaper than full fine-tuning. Methods that are cheapest to the target quality "
        "stand first, then those that train fastest.",
        [row for run in runs for row in _costs(run)],
        ("run",),
    )


def _costs(named: NamedFile[Run]) -> Iterator[dict[str, object]]:
    answer = Answer(named.content)
    found = answer.found
    if found.reference != FULL:
        return
    for method in cheapest_first(answer):
        for name, what in SHOWN.items():
            if one := found.methods[method].get(name):
                shown = f"{between(Interval(one.mean.value, one.mean.low, one.mean.high))}"
                row = {"run": named.name, "method": method, "what": what, "value": one.mean.value}
                yield {**row, "low": one.least, "high": one.most, "groups": one.blocks, "shown": shown}
