"""The settings of what a run writes, and on which machines it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peftbench.config.options import Question, flag, option
from peftbench.config.parsing import (
    MOST_THREADS,
    comma_separated,
    fraction,
    one_of,
    whole,
)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Settings` has its own: start-up counts
class RunningSettings:
    """What a run writes, and on which machines it runs."""

    tables: str | None = option(
        None,
        "ours: leave cases out of pytest-benchmark's tables; both: print these, too; default: both if an option of "
        "pytest-benchmark asks for its output, else ours",
        Question.OUTPUT,
        parse=one_of("ours", "both"),
        metavar="WHICH",
        parent=True,
    )
    json: Path | None = option(
        None, "write all records to this file", Question.OUTPUT, parse=Path, metavar="FILE", parent=True
    )
    diff_json: Path | None = option(
        None, "write the comparison to this file", Question.OUTPUT, parse=Path, metavar="FILE", parent=True
    )
    bencher_json: Path | None = option(
        None,
        "write the run to this file in Bencher's metric format (BMF)",
        Question.OUTPUT,
        parse=Path,
        metavar="FILE",
        parent=True,
    )
    action_json: Path | None = option(
        None,
        "write the run to this file for github-action-benchmark",
        Question.OUTPUT,
        parse=Path,
        metavar="FILE",
        parent=True,
    )
    html: Path | None = option(
        None,
        "write a page with plots and tables to this file; needs pip install 'peftbench[report]'",
        Question.OUTPUT,
        parse=Path,
        metavar="FILE",
        parent=True,
    )
    work: Path | None = option(
        None,
        "folder of the journal and of launches; default: .peftbench in pytest's root directory",
        Question.OUTPUT,
        parse=Path,
        metavar="DIR",
    )
    resume: bool = flag(
        "go on with a run that was killed: take its finished cases from the journal", Question.OUTPUT, parent=True
    )
    device: str = option(
        "auto",
        "cpu, cuda or cuda:N; default (auto): cuda if there is a GPU, else cpu",
        Question.MACHINES,
        identity=True,
    )
    threads: int = option(
        1, "CPU threads; default: 1", Question.MACHINES, parse=whole(1, MOST_THREADS), metavar="N", identity=True
    )
    shard: tuple[int, int] | None = option(
        None,
        "run one part of the cases: 3/16 is the third of sixteen; a part is the same on every machine",
        Question.MACHINES,
        parse=fraction,
        metavar="K/N",
        parent=True,
    )
    gpus: tuple[str, ...] = option(
        (),
        "run one process on each GPU and spread the cases over them: all, or indices or UUIDs, comma-separated",
        Question.MACHINES,
        parse=comma_separated,
        metavar="LIST",
        parent=True,
        launches=True,
    )
