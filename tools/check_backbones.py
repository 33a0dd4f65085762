"""Every architecture x family of methods x task: ok, or the reason why not. A traceback makes it exit 1.

    python tools/check_backbones.py                                 # all, a line a cell that is not ok
    python tools/check_backbones.py --quick --data files            # a few architectures and methods: for CI
    python tools/check_backbones.py --only Llama T5 --tasks nli --methods lora ia3
    python tools/check_backbones.py --write docs/backbones.md       # the page, half an hour on one core

Each architecture is a small model with random weights, saved as somebody would save a trained one, and read as
`--peftbench-model` reads it. Of a task, the first method's case is measured with all passes; of the others that is
done which decides whether they are: the validity pass and two training steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tools.backbone_cells import Cell, page
from tools.backbones import ARCHITECTURES, WORDS, Architecture

from peftbench.config.settings import Settings
from peftbench.errors import UnsupportedError, UserError, ValidityError
from peftbench.matrix.cases import select_methods
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.trial import nothing
from peftbench.records.ids import Case
from peftbench.run.runner import Runner
from peftbench.validity import check as validity
from peftbench.workloads.backend import Backend

if TYPE_CHECKING:
    from peftbench.measure.time.rounds import TimedRound
    from peftbench.records.ids import MethodSpec
    from peftbench.workloads.backend import Group

CATALOGUE: Final = Catalogue.load()
FAMILIES: Final = {
    "whole": ("full",),
    "part": ("head", "bitfit"),
    "paper": ("houlsby", "prefix"),
    "low rank": ("lora", "adalora"),
    "scaling": ("ia3", "ln-tuning"),
    "orthogonal": ("oft",),
    "prompt": ("prompt-tuning", "prefix-peft"),
}
"""Families of methods, each with those that stand for it."""
QUICK: Final = ("BERT", "DeBERTa-v3", "Llama", "GPT-2", "T5", "Gemma 3 (vision)", "ViT")
QUICK_METHODS: Final = ("full", "head", "lora", "ia3")
ALL_METHODS_ON: Final = ("Llama", "Qwen3", "GPT-2", "T5", "ModernBERT", "DeBERTa-v3")
ROWS: Final = 2
SEQ_LEN: Final = 24
"""Leaves room for a prompt in the models' positions."""


def cells(
    architecture: Architecture, methods: Sequence[str], tasks: Sequence[str], data: Path | None
) -> Iterator[Cell]:
    """Yield the cells of an architecture; a model that is refused as a whole has one, of all methods and tasks.

    Args:
        architecture: whose small model is made.
        methods: names, or families as on the command line.
        tasks: names.
        data: a folder with a file for each task; None: synthetic.
    """
    with tempfile.TemporaryDirectory() as folder:
        architecture.save(Path(folder))
        settings = Settings(
            model=folder,
            device="cpu",
            rounds=1,
            seq_len=SEQ_LEN,
            data=str(data) if data else "synthetic",
            attention=_attention(architecture),
        )
        try:
            backend = Backend.open(settings, CATALOGUE, [CATALOGUE.task(name) for name in tasks])
        except UserError as error:
            yield Cell(architecture.name, "*", "*", "refused", str(error).replace(folder, "folder"))
            return
        runner = Runner(backend, session="check")
        specs = select_methods(methods, CATALOGUE.methods)
        for task in tasks:
            yield from _of_task(runner, architecture, specs, task)
        runner.close()


def _attention(architecture: Architecture) -> str:
    """Return the attention that the architecture has: what --peftbench-attention would be set to."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    config = AutoConfig.for_model(architecture.model_type, **architecture.config)
    base = MODEL_MAPPING.get(type(config), None)
    first = base[0] if isinstance(base, tuple) else base
    return "sdpa" if getattr(first, "_supports_sdpa", False) else "eager"


def _of_task(runner: Runner, architecture: Architecture, specs: Sequence[MethodSpec], task: str) -> Iterator[Cell]:
    group: Group | None = None
    for spec in specs:
        try:
            if group is None:
                status, reason = _measured(runner, spec, task)
                group = runner.backend.group(task, ROWS) if status == "ok" else None
            else:
                status, reason = _tried(group, spec)
        except Exception as error:  # noqa: BLE001 - what would be a traceback, or the end of a run
            frame = traceback.extract_tb(error.__traceback__)[-1]
            status = "crash"
            reason = f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
        yield Cell(architecture.name, str(spec), task, status, reason.replace(runner.backend.model.name, "folder"))
    runner.release()


def _measured(runner: Runner, spec: MethodSpec, task: str) -> tuple[str, str]:
    case = Case(spec, task, ROWS)
    record = runner.measure(case, CATALOGUE.workload("train_step"), id=f"train_step[{case.id}]", observer=_alone)
    return record.status, record.reason


def _tried(group: Group, spec: MethodSpec) -> tuple[str, str]:
    """Do what decides whether a case is measured, and return the status that the runner gives."""
    subject = group.subject(spec)
    try:
        if reason := subject.method.unsupported(group.task, architecture=group.backend.config.model_type):
            return "unsupported", reason
        validity.check(subject)
        trial = CATALOGUE.workload("train_step").trial(subject)
        for number in (0, 1):
            trial.run(number, nothing)
    except UnsupportedError as error:
        return "unsupported", str(error)
    except ValidityError as error:
        return "invalid", str(error)
    except UserError as error:
        return "failed", str(error)
    return "ok", ""


def _alone(timed: TimedRound) -> TimedRound:
    return timed


def write_rows(folder: Path) -> None:
    """Write a few rows of each task, as somebody's data files."""
    random = Random(0)

    def text() -> str:
        return " ".join(random.choices(WORDS, k=random.randint(3, 20)))

    def row(task: str, number: int) -> dict[str, Any]:
        if task == "ner":
            tokens = [*text().split(), "queen"]
            return {"tokens": tokens, "ner_tags": ["O"] * (len(tokens) - 1) + ["B-PER"]}
        if task == "qa":
            context = f"{text()} queen {text()}"
            answers = {"text": ["queen"], "answer_start": [context.index("queen")]}
            return {"context": context, "question": "who made the tarts", "answers": answers}
        if task == "sft":
            return {"prompt": "who made the tarts", "completion": text()}
        texts = [name for name in CATALOGUE.task(task).fields if name not in ("label", "question")]
        extra = {"question": "cause"} if task == "copa" else {}
        return {**{name: text() for name in texts}, **extra, "label": number % 2}

    for task in CATALOGUE.tasks:
        path = folder / task / "train.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row(task, number)) + "\n" for number in range(12)))


def walk(names: Iterable[str], methods: Sequence[str], tasks: Sequence[str], *, files: bool) -> Iterator[Cell]:
    """Yield the cells of the named architectures, one after the other, on synthetic or on file data."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) if files else None
        if data:
            write_rows(data)
        for architecture in ARCHITECTURES:
            if architecture.name in names:
                yield from cells(architecture, methods, tasks, data)


def told(found: Iterable[Cell]) -> Iterator[Cell]:
    """Print each cell that is not ok as it comes."""
    for cell in found:
        if cell.status != "ok":
            print(f"{cell.architecture} {cell.method} {cell.task}: {cell.status}: {cell.reason}", flush=True)
        yield cell


def main() -> int:
    """Print a line a cell that is not ok; write the page where one is asked for."""
    every = [architecture.name for architecture in ARCHITECTURES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=every)
    parser.add_argument("--methods", nargs="+", metavar="NAME")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", default=list(CATALOGUE.tasks))
    parser.add_argument("--data", choices=("synthetic", "files"), default="synthetic")
    parser.add_argument("--quick", action="store_true", help="a few architectures and methods")
    parser.add_argument("--cells", type=Path, metavar="FILE", help="append the cells, a JSON object a line")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page; of the cells in FILE where given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    start = time.monotonic()
    names = options.only or (QUICK if options.quick else every)
    stand_ins = [name for names_ in FAMILIES.values() for name in names_]
    methods = options.methods or (QUICK_METHODS if options.quick else stand_ins)
    if options.write and options.cells:
        kept = [Cell(**json.loads(line)) for line in options.cells.read_text().splitlines()]
        found = sorted(kept, key=lambda cell: every.index(cell.architecture))
    else:
        found = list(told(_kept(walk(names, methods, options.tasks, files=options.data == "files"), options.cells)))
        if options.write:
            found += told(walk(ALL_METHODS_ON, ["peft"], ["nli"], files=False))
    if options.write:
        options.write.write_text(page(found, FAMILIES, ALL_METHODS_ON, options.tasks))
    crashed = sum(cell.status == "crash" for cell in found)
    print(f"{len(found)} cells, {crashed} crashed, {time.monotonic() - start:.0f} s")
    return int(crashed > 0)


def _kept(found: Iterable[Cell], file: Path | None) -> Iterator[Cell]:
    for cell in found:
        if file:
            with file.open("a") as stream:
                stream.write(json.dumps(asdict(cell)) + "\n")
        yield cell


if __name__ == "__main__":
    sys.exit(main())
