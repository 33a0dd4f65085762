"""The first look at a page: the answer of each run, what got slower, and one chart of all methods' costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from peftbench.claims.intervals import Interval
from peftbench.claims.standing import INFERENCE, TRAINING
from peftbench.pages.guard import ComparisonPart
from peftbench.pages.plots import Plot
from peftbench.pages.sources import NamedFile
from peftbench.records.record import Run
from peftbench.report.answer import Answer
from peftbench.report.numbers import between
from peftbench.report.x_full import FULL

SHOWN: Final = {TRAINING: "time of a training step", INFERENCE: "time of inference", "memory": "memory of training"}
"""Quantity -> name in the chart of all methods."""


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


def headlines(runs: Sequence[NamedFile[Run]], comparisons: Sequence[ComparisonPart]) -> list[Headline]:
    """Return the questions that the files answer."""
    return [*(_cheapest(run, alone=len(runs) == 1) for run in runs), *map(_slower, comparisons)]


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
    return Headline(question, f"{part.worst.id}: {part.worst.why}", [part.headline], bad=True)


def plot(runs: Sequence[NamedFile[Run]]) -> Plot:
    """Return the chart of all methods' costs against full fine-tuning."""
    return Plot(
        "overview",
        "Costs against full fine-tuning",
        "Each point is a method's mean over all tasks and batch sizes (geometric), its line the range of these. Left "
        "of the dashed line a method is cheaper than full fine-tuning.",
        [row for run in runs for row in _costs(run)],
        ("run",),
    )


def _costs(named: NamedFile[Run]) -> Iterator[dict[str, object]]:
    found = Answer(named.content).found
    if found.reference != FULL:
        return
    for name, what in SHOWN.items():
        for method, mine in found.methods.items():
            if one := mine.get(name):
                shown = f"{between(Interval(one.mean.value, one.mean.low, one.mean.high))}"
                row = {"run": named.name, "method": method, "what": what, "value": one.mean.value}
                yield {**row, "low": one.least, "high": one.most, "groups": one.blocks, "shown": shown}
