"""Every architecture x family of methods x task: ok, or the reason why not. Any traceback or early end makes it exit 1.

    python tools/check_backbones.py [--quick] [--data files] [--only Llama T5] [--write docs/backbones.md]

Each architecture is a small model with random weights, saved as somebody would save a trained one, and read as
`--peftbench-model` reads it. A cell runs a case of `train_step` as the benchmarks do: validity, counters, one round.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
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
QUICK_FAMILIES: Final = ("part", "low rank", "scaling")
ALL_METHODS_ON: Final = ("Llama", "Qwen3", "GPT-2", "T5", "ModernBERT", "DeBERTa-v3")


ROWS: Final = 2
SEQ_LEN: Final = 24
"""Leaves room for a prompt in the models' positions."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of a method on a task of an architecture."""

    architecture: str
    method: str
    task: str
    status: str
    """A record's status; `crash`: a traceback or an early end."""
    reason: str = ""


def check(
    architecture: Architecture,
    methods: Sequence[str],
    tasks: Sequence[str],
    data: Path | None,
    seq_len: int | None = SEQ_LEN,
) -> Iterator[Cell]:
    """Yield the cells of an architecture; a model that is refused as a whole is one cell for all methods and tasks."""
    catalogue = Catalogue.load()
    specs = select_methods(methods, catalogue.methods)
    with tempfile.TemporaryDirectory() as folder:
        architecture.save(Path(folder))
        settings = Settings(
            model=folder,
            device="cpu",
            rounds=1,
            seq_len=seq_len,
            data=str(data) if data else "synthetic",
            attention=_attention(architecture),
        )
        try:
            runner = Runner(
                Backend.open(settings, catalogue, [catalogue.task(name) for name in tasks]), session="check"
            )
        except UserError as error:
            yield Cell(architecture.name, "*", "*", "refused", str(error).replace(folder, architecture.name))
            return
        for task in tasks:
            yield from _cells(runner, architecture, specs, task)
        runner.close()


def _attention(architecture: Architecture) -> str:
    """Return the attention that the architecture has: what --peftbench-attention would be set to."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    config = AutoConfig.for_model(architecture.model_type, **architecture.config)
    base = MODEL_MAPPING.get(type(config), None)
    first = base[0] if isinstance(base, tuple) else base
    return "sdpa" if getattr(first, "_supports_sdpa", False) else "eager"


def _cells(runner: Runner, architecture: Architecture, specs: Sequence[MethodSpec], task: str) -> Iterator[Cell]:
    """Yield the cells of a task: the first method's with all passes, the others' with validity and one round."""
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
    workload = runner.backend.catalogue.workload("train_step")
    record = runner.measure(case, workload, id=f"train_step[{case.id}]", observer=_alone)
    return record.status, record.reason


def _tried(group: Group, spec: MethodSpec) -> tuple[str, str]:
    """Do what decides whether a case is measured, with the statuses that the runner gives."""
    subject = group.subject(spec)
    kind = group.backend.config.model_type
    try:
        if reason := subject.method.unsupported(group.task, architecture=kind):
            return "unsupported", reason
        validity.check(subject)
        trial = group.backend.catalogue.workload("train_step").trial(subject)
        trial.run(0, nothing)
        trial.run(trial.representative, nothing)
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

    def rows(task: str, number: int) -> dict[str, Any]:
        if task == "ner":
            tokens = [*text().split(), "queen"]
            return {"tokens": tokens, "ner_tags": ["O"] * (len(tokens) - 1) + ["B-PER"]}
        if task == "qa":
            context = f"{text()} queen {text()}"
            answers = {"text": ["queen"], "answer_start": [context.index("queen")]}
            return {"context": context, "question": "who made the tarts", "answers": answers}
        texts = {
            "nli": ("premise", "hypothesis"),
            "sentiment": ("text",),
            "paraphrase": ("sentence1", "sentence2"),
            "copa": ("premise", "choice1", "choice2"),
        }[task]
        extra = {"question": "cause"} if task == "copa" else {}
        return {**{name: text() for name in texts}, **extra, "label": number % 2}

    for task in Catalogue.load().tasks:
        path = folder / task / "train.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(rows(task, number)) + "\n" for number in range(12)))


def main() -> int:
    """Print a line a cell that is not ok, and how many there are of each status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=None)
    parser.add_argument("--methods", nargs="+", default=None)
    parser.add_argument("--tasks", nargs="+", default=list(Catalogue.load().tasks))
    parser.add_argument("--data", choices=("synthetic", "files"), default="synthetic")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    methods = options.methods or [name for names in FAMILIES.values() for name in names]
    start = time.monotonic()
    crashed = 0
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) if options.data == "files" else None
        if data:
            write_rows(data)
        for architecture in ARCHITECTURES:
            if options.only and architecture.name not in options.only:
                continue
            for cell in check(architecture, methods, options.tasks, data):
                count += 1
                crashed += cell.status == "crash"
                if cell.status != "ok":
                    print(f"{cell.architecture} {cell.method} {cell.task}: {cell.status}: {cell.reason}", flush=True)
    print(f"{count} cells, {crashed} crashed, {time.monotonic() - start:.0f} s")
    return bool(crashed)


if __name__ == "__main__":
    sys.exit(main())
