"""What became of a method on a task of an architecture, and the page that shows all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

HEADER: Final = """# Backbones

Which methods can be measured on which models, tried out: made by `python tools/check_backbones.py --write
docs/backbones.md`, not by hand. Each architecture is a model of two narrow layers with random weights, saved and read
as `--peftbench-model` reads it. `ok` means that the validity pass held (it trains, merges and saves what it claims to)
and that training steps ran. A number stands for the reason below, which is also what the case's row says.
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of a method on a task of an architecture."""

    architecture: str
    method: str
    """`*`: of all, where the model is refused as a whole."""
    task: str
    status: str
    """A record's status; `refused`: the model as a whole; `crash`: a traceback or an early end."""
    reason: str = ""


class Reasons:
    """Numbers reasons in the order in which they are first asked for."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, cell: Cell) -> int:
        """Return the number of a cell's reason; reasons that differ only in the model's type are one."""
        text = f"{cell.status}: {_general(cell.reason)}"
        return self.numbers.setdefault(text, len(self.numbers) + 1)

    def lines(self) -> list[str]:
        """Return the reasons as a numbered list."""
        return [f"{number}. {text}" for text, number in self.numbers.items()]


def page(
    cells: Sequence[Cell], families: Mapping[str, Sequence[str]], all_on: Sequence[str], tasks: Sequence[str]
) -> str:
    """Return the page as markdown.

    Args:
        cells: of all architectures, and every method of PEFT on some.
        families: of methods, each with those that stand for it.
        all_on: the architectures on which every method was tried.
        tasks: all names.
    """
    reasons = Reasons()
    known = {(cell.architecture, cell.method, cell.task): cell for cell in cells}
    names = list(dict.fromkeys(cell.architecture for cell in cells))
    stand_ins = [f"{family}: {', '.join(members)}" for family, members in families.items()]
    table = _table(
        ["architecture", *families],
        [[name, *(_family(known, name, members, tasks, reasons) for members in families.values())] for name in names],
    )
    methods = list(dict.fromkeys(c.method for c in cells if c.architecture in all_on and c.task in ("nli", "*")))
    every = _table(
        ["method", *all_on],
        [[method, *(_one(known.get((name, method, "nli")), reasons) for name in all_on)] for method in sorted(methods)],
    )
    return "\n".join(
        [
            HEADER,
            f"## {len(names)} architectures, {len(families)} families of methods, {len(tasks)} tasks\n",
            f"Tasks: {', '.join(tasks)}. What stands for a family: {'; '.join(stand_ins)}.",
            "`ok` alone: each of them on each task. Methods and tasks after a number: the reason is theirs alone.\n",
            *table,
            "\n## Every method on nli\n",
            *every,
            "\n## Reasons\n",
            *reasons.lines(),
            "",
        ]
    )


def _family(
    known: Mapping[tuple[str, str, str], Cell],
    name: str,
    members: Sequence[str],
    tasks: Sequence[str],
    reasons: Reasons,
) -> str:
    """Return `ok`, or for each reason its number, and methods and tasks unless it is all of them."""
    if refused := known.get((name, "*", "*")):
        return str(reasons.number(refused))
    found = [known[key] for method in members for task in tasks if (key := (name, method, task)) in known]
    why: dict[int, list[Cell]] = {}
    for cell in found:
        if cell.status != "ok":
            why.setdefault(reasons.number(cell), []).append(cell)
    texts = [_where(number, told, members, tasks) for number, told in why.items()]
    missing = [task for task in tasks if any((name, method, task) not in known for method in members)]
    if len(missing) < len(tasks) and missing:
        texts.append(f"not tried ({' '.join(missing)})")
    return "; ".join([*(["ok"] if any(cell.status == "ok" for cell in found) else []), *texts]) or "not tried"


def _where(number: int, cells: Sequence[Cell], members: Sequence[str], tasks: Sequence[str]) -> str:
    of_methods = [name for name in members if any(cell.method == name for cell in cells)]
    of_tasks = [name for name in tasks if any(cell.task == name for cell in cells)]
    parts = [
        *(of_methods if len(of_methods) < len(members) else []),
        *(of_tasks if len(of_tasks) < len(tasks) else []),
    ]
    return f"{number} ({' '.join(parts)})" if parts else str(number)


def _one(cell: Cell | None, reasons: Reasons) -> str:
    if cell is None:
        return "not tried"
    return "ok" if cell.status == "ok" else str(reasons.number(cell))


def _general(reason: str) -> str:
    """Return a reason without what is another one for each architecture: its type, its layers."""
    text = re.sub(r" \(folder\)", "", reason)
    text = re.sub(r"for model type '[\w-]+'", "for this model type", text)
    text = re.sub(r"the blocks of '[\w-]+'", "the blocks of this model", text)
    text = re.sub(r"the backbone of [\w-]+ has", "the backbone has", text)
    text = re.sub(r"[\w-]+ takes no past_key_values", "the backbone takes no past_key_values", text)
    text = re.sub(r", of [\w-]+, whose linear layers are called .*", "", text)
    text = re.sub(r" on [\w-]+: (?=its model for it|\w+Error)", ": ", text)
    return text.replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
