"""The specimens of fuzzing: a real file of each kind, its readers, and checks of what they read."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from peftbench.cli import main
from peftbench.data.sources import Source, load_rows
from peftbench.errors import UserError
from peftbench.gate.load import load_snapshot
from peftbench.gate.snapshot import snapshot_of
from peftbench.gate.store import save
from peftbench.libraries import quiet
from peftbench.processes.launches.assignment import Assignment
from peftbench.records.journal import Journal, read, salvage
from peftbench.records.record import CurvePoint, Launch, LoadPoint, Metric, Record, Run
from peftbench.records.runfile import load_run, save_run
from peftbench.tasks import classification, tokens

FINGERPRINT: Final = {"cpu": "Xeon", "device": "cpu", "python": "3.11.7", "torch": "2.13.0", "peft": "0.21.2"}
SETTINGS: Final[Mapping[str, Any]] = {
    "model": "tiny",
    "dtype": "float32",
    "data": "none",
    "reference": "base",
    "target": "97%",
    "learning_rates": [3e-5],
}
SHARD: Final = {"part": 1, "parts": 2, "cases": 9, "planned": ["train_step[lora-nli-bs8]"]}
HEADER: Final = {"fingerprint": FINGERPRINT, "settings": SETTINGS}


class WrongError(Exception):
    """A reader accepted a file that it should refuse, or read a wrong value."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """One kind of file."""

    kind: str
    name: str
    """Name of the file, in a folder of its own."""
    data: bytes
    read: Callable[[Path], bool]
    """Reads the file with each of its readers. Returns False if it was refused in one line. Raises WrongError, or any
    other error, if a reader is wrong."""


def specimens(folder: Path) -> list[Specimen]:
    """Return the specimens of all kinds. Files with which they are compared are written into `folder`."""
    base = folder / "base"
    run, baseline, journal = base / "run.json", base / "baseline.json", base / "journal.jsonl"
    save_run(_run(), run)
    save(snapshot_of(_run()), baseline)
    kept = Journal(journal, HEADER)
    for record in _run().records:
        kept.append(record)
    kept.close()
    shard = folder / "base" / "shard.json"
    save_run(replace(_run(), notes={"shard": SHARD, "duration_s": 1.0, "passes_s": {"time": 1.0}}), shard)
    assignment = Assignment(session="s", nodes=("a", "b"), folder=str(base), socket=3).write()
    tensors, load = _adapter(base)
    made = [
        Specimen("run", "run.json", run.read_bytes(), partial(_read_run, base)),
        Specimen("run as NEW", "run.json", run.read_bytes(), partial(_gate, base)),
        Specimen("baseline", "base.json", baseline.read_bytes(), partial(_read_baseline, base)),
        Specimen("journal", "journal.jsonl", journal.read_bytes(), _read_journal),
        Specimen("shard", "shard.json", shard.read_bytes(), _read_shard),
        Specimen("assignment", "assignment.json", assignment.read_bytes(), _read_assignment),
        Specimen("adapter", "adapter.safetensors", tensors, load),
    ]
    return [*made, *_data()]


def _run() -> Run:
    """Return a run with three cases and two trainings, and with each kind of metric."""
    metrics = {
        "flops": Metric(2**60 + 1, "FLOP"),
        "operator_calls": Metric(995, "1"),
        "time_s": Metric(0.012, "s", noise="timed", low=0.011, high=0.013),
        "accuracy": Metric(0.5, "1", better="higher"),
        "energy_j": Metric(None, "J", noise="sampled", reason="no NVML on a CPU"),
    }
    xs = (0.21, 0.2, 0.19, 0.2, 0.205, 0.195)
    measured = [
        Record(
            id=f"train_step[{method}-nli-bs8]",
            workload="train_step",
            method=method,
            task="nli",
            batch_size=8,
            seq_len=32,
            status="ok",
            metrics=metrics,
            launches=tuple(Launch(f"s{n // 3}", 40, 0.012, 0.01, x + 0.01 * n, 0.02) for n, x in enumerate(xs)),
            operators={"aten::mm": 24, "aten::clone": 2},
            operator_hash="ab12",
            modules={"lora_A": 512},
            passes_s={"build": 0.1, "time": 0.5},
            quantiles_s=(0.01, 0.011, 0.012),
        )
        for method in ("full", "lora", "ia3")
    ]
    trained = [
        replace(
            measured[0],
            id=f"convergence[{method}-nli-bs8-seed0-lr3e-05]",
            workload="convergence",
            method=method,
            launches=(),
            variant={"seed": 0, "lr": 3e-5},
            curve=(CurvePoint(1, 8, 0.5, 0.6, {"accuracy": 0.6}), CurvePoint(2, 16, 1.0, 0.9, {"accuracy": 0.9})),
        )
        for method in ("full", "lora")
    ]
    served = replace(
        measured[0],
        id="deployment[lora-nli-bs8-bymixed-n4]",
        workload="deployment",
        method="lora",
        launches=(),
        variant={"by": "mixed", "n": 4},
        loads=(LoadPoint(50.0, 50.2, 200, 2, 1.4, 0.05, 0.02, 0.03, 0.04), LoadPoint(125.0, 99.0, 200, 41, 8.0, 0.7)),
    )
    failed = replace(measured[0], id="train_step[oft-nli-bs8]", status="failed", reason="boom", metrics={}, launches=())
    return Run(
        FINGERPRINT, SETTINGS, (*measured, *trained, served, failed), {"duration_s": 1.0, "noise": {"load_1min": 0.5}}
    )


def command(*arguments: str) -> int:
    """Return the exit status of a command; raises WrongError if a refusal is not exactly one line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    said = err.getvalue()
    if status == 2 and not (said.startswith("peftbench: ") and said.count("\n") == 1 and not out.getvalue()):  # noqa: PLR2004
        raise WrongError(f"status 2, and no single line: {said[:500]!r}")
    return status


def _read_run(base: Path, path: Path) -> bool:
    text = path.read_bytes()
    statuses = {
        command("compare", str(path), str(base / "run.json")),
        command("accept", str(path), "--why", "fuzz", "--baseline", str(path.parent / "baselines")),
        command("claims", str(path)),
        command("recommend", str(path)),
        command("merge", str(path), "-o", str(path.parent / "merged.json")),
    }
    for written in (path.parent / "baselines").glob("*.json"):
        load_snapshot(written)  # raises if `accept` wrote a file that is refused
    with contextlib.suppress(UserError):
        found, whole = load_snapshot(path), load_run(path)
        _require(text, "records/run.schema.json")
        if found != snapshot_of(whole):
            raise WrongError("the quick reader and the careful one read different things")
    return statuses != {2}


def _gate(base: Path, path: Path) -> bool:
    """Compare with the baseline. If a strict gate passes, each gated number must be present and not be worse."""
    status = command("compare", str(base / "baseline.json"), str(path), "--fail-on", "strict")
    if status == 0:
        new = {record["id"]: record for record in json.loads(path.read_bytes())["records"]}
        for record in _run().records:
            for name, metric in record.metrics.items() if record.status == "ok" else ():
                if (metric.noise, metric.better) != ("exact", "lower") or metric.value is None:
                    continue
                found = new[record.id]["metrics"][name]
                if (found["noise"], found["better"]) != ("exact", "lower") or not found["value"] <= metric.value:
                    raise WrongError(f"passes, and {record.id} {name} is {found}")
    return status != 2  # noqa: PLR2004 - an error


def _read_baseline(base: Path, path: Path) -> bool:
    text = path.read_bytes()
    status = command("compare", str(path), str(base / "run.json"), "--all")
    command("accept", str(base / "run.json"), "--why", "fuzz", "--append", "--baseline", str(path.parent))
    if status != 2:  # noqa: PLR2004 - an error
        _require(text, "gate/baseline.schema.json")
    return status != 2  # noqa: PLR2004


def _read_journal(path: Path) -> bool:
    refused = []
    for reader in (salvage, lambda file: read(file, {"schema": "peftbench/journal/1", **HEADER}), _resumed):
        try:
            reader(path)
        except UserError:
            refused.append(reader)
    return not refused


def _resumed(path: Path) -> None:
    """Resume, append and read again. The second time must find the same records as the first."""
    before = path.read_bytes()
    try:
        journal = Journal(path, HEADER, resume=True)
    except UserError:
        if path.read_bytes() != before:
            raise WrongError("a resume that failed changed the journal") from None
        raise
    journal.append(replace(_run().records[0], id="another"))
    journal.close()
    if {*journal.finished, "another"} != set(read(path, {"schema": "peftbench/journal/1", **HEADER})):
        raise WrongError("the journal lost what it had")


def _read_shard(path: Path) -> bool:
    return command("merge", str(path), "-o", str(path.parent / "merged.json")) != 2  # noqa: PLR2004 - an error


def _read_assignment(path: Path) -> bool:
    try:
        Assignment.read(path)
    except UserError:
        return False
    return True


def _adapter(base: Path) -> tuple[bytes, Callable[[Path], bool]]:
    import torch

    from peftbench.methods import checkpoint

    model, about = torch.nn.Linear(8, 8), {"method": "lora"}
    checkpoint.save(model, base, about)

    def load(path: Path) -> bool:
        try:
            checkpoint.load(model, path.parent, about)
        except UserError:
            return False
        return True

    return (base / checkpoint.FILE).read_bytes(), load


def _data() -> Iterator[Specimen]:
    """Yield files of rows in each format."""
    from datasets import Dataset

    rows = [{"premise": f"a {n}", "hypothesis": 'b, "c"', "label": n % 3} for n in range(20)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    table = "premise,hypothesis,label\n" + "".join(f'a {n},"b, ""c""",{n % 3}\n' for n in range(20))
    sink = io.BytesIO()
    with quiet("datasets"):
        Dataset.from_list(rows).to_parquet(sink)
    tagged = json.dumps([{"tokens": ["a", "queen"], "ner_tags": ["O", "B-PER"]}] * 5)
    for name, task, data in (
        ("train.jsonl", "nli", lines.encode()),
        ("train.csv", "nli", table.encode()),
        ("train.parquet", "nli", sink.getvalue()),
        ("train.json", "ner", tagged.encode()),
    ):
        yield Specimen(f"data {name.partition('.')[2]}", f"{task}/{name}", data, partial(_read_rows, task))


def _read_rows(name: str, path: Path) -> bool:
    task = next(task for task in (*classification.TASKS, *tokens.TASKS) if task.name == name)
    try:
        for row in load_rows(Source("folder", path.parent.parent), task):
            if problem := task.problem(row):
                raise WrongError(problem)
    except UserError:
        return False
    return True


@cache
def _schema(name: str) -> Any:  # noqa: ANN401 - jsonschema's own
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(files("peftbench").joinpath(name).read_text()))


def _require(text: bytes, schema: str) -> None:
    """Raise WrongError unless a text has no name twice, and fits the published schema."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise WrongError(f"a name stands twice among {[name for name, _ in pairs][:20]}")
        return dict(pairs)

    data = json.loads(text, object_pairs_hook=once)
    for problem in _schema(schema).iter_errors(data):
        raise WrongError(f"does not fit {schema}: {problem.message[:300]} at {list(problem.path)}")
