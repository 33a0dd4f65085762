"""Holds peftbench to PEFT's own comparison of methods: parameters, checkpoints, and the order by time and memory.

    python tools/peft_comparison.py FOLDER                                # count, and print a table
    python tools/peft_comparison.py FOLDER --only 'lora/*'                # some experiments
    python tools/peft_comparison.py FOLDER --keep counts.json             # go on with what was counted before
    python tools/peft_comparison.py FOLDER --measure run.json             # measure first: a GPU of 80 GB is needed
    python tools/peft_comparison.py FOLDER --run run.json                 # with the times of a run that was measured

FOLDER is `method_comparison/MetaMathQA` of PEFT's repository, with `experiments/<method>/<name>/adapter_config.json`
and `results.csv`. Each experiment is applied to a model of the same shape, as `--peftbench-methods=<folder>` does it.

Parameters and bytes follow from shapes. The model has no memory (`meta`) where the tuner can be applied to such a one,
else random weights in bfloat16 on the CPU (6.4 GB). Times follow from the machine: they are compared as ratios to LoRA
of rank 32, and by their order.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.overrides import TorchFunctionMode

from peftbench.errors import PeftbenchError
from peftbench.matrix.catalogue import Catalogue
from peftbench.matrix.folders import with_folders
from peftbench.methods.base import Application
from peftbench.methods.peft.folder import FolderMethod
from peftbench.models import building
from peftbench.models.presets import resolve
from peftbench.records.runfile import load_run

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.methods.base import Method
    from peftbench.models.presets import ModelSource

REFERENCE: Final = "lora/llama-3.2-3B-rank32"
"""The experiment to which times and memory are ratios."""
FULL: Final = "full-finetuning/"
"""What the names of experiments without an adapter begin with."""
TASK: Final = "sft"
SHAPE: Final = "llama-3.2-3b"
"""The preset of the model's shape."""
TYPES: Final[Mapping[torch.dtype, str]] = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What safetensors calls a type, in the order in which it writes them."""
SKIPPED: Final = (torch.linalg.qr, torch.linalg.eigh, torch.linalg.inv, torch.linalg.solve)
COLUMNS: Final = 1000
"""Matrices with at most so many are decomposed: values of those do set shapes, and it takes no time."""
NEAR: Final = 0.01
"""Largest relative difference of headers that name other shapes of as many tensors."""
ALIGNMENT: Final = 8
"""Bytes: safetensors begins with the length of its header in so many, and pads the header to a multiple of it."""


Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor of a checkpoint, by name."""


@dataclass(frozen=True, slots=True)
class Published:
    """A row of PEFT's results."""

    experiment: str
    trained: int
    total: int
    file_bytes: int
    step_ms: float
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class Counted:
    """What a method trains and saves here."""

    trained: int
    total: int
    tensor_bytes: int
    header_bytes: int
    device: str
    frozen: int = 0
    """Parameters of the adapter that the method's optimizer leaves as they are."""
    pruned_bytes: tuple[int, int] | None = None
    """The least and the most that the tensors can have after a training that takes ranks away."""
    fickle: int = 0
    """Number of its tensors that have another shape with other random weights."""

    @property
    def file_bytes(self) -> int:
        """Bytes of the safetensors file."""
        return self.tensor_bytes + self.header_bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """A training step, as it was measured here."""

    step_s: float
    peak_bytes: float


class WithoutDecompositions(TorchFunctionMode):
    """Within the context decompositions of whole weights return zeros: they take hours, and set no shape."""

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - torch's own signature
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Replace `qr`, `inv`, `eigh` and `solve` of matrices with many columns."""
        del types
        if func in SKIPPED and args[0].shape[-1] > COLUMNS:
            rows, columns = args[0].shape
            inner = min(rows, columns)
            zeros = args[0].new_zeros
            if func is torch.linalg.qr:
                return zeros(rows, inner), zeros(inner, columns)
            if func is torch.linalg.eigh:
                return zeros(rows), zeros(rows, rows)
            return torch.zeros_like(args[-1])
        return func(*args, **(kwargs or {}))


def published(folder: Path) -> list[Published]:
    """Read the rows of `results.csv`."""
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return [
            Published(
                experiment=row["experiment"],
                trained=int(row["trainable"]),
                total=int(row["total"]),
                file_bytes=int(row["file_size_b"]),
                step_ms=float(row["step_ms"]),
                memory_bytes=float(row["memory_max_b"]),
            )
            for row in csv.DictReader(file)
        ]


def methods_of(folder: Path, rows: Iterable[Published], catalogue: Catalogue) -> dict[str, Method]:
    """Return the method of each experiment, called as a run calls it that is given `pattern(folder)`."""
    known = with_folders(catalogue, [pattern(folder)])
    by_path = {method.folder.path: method for method in known.methods.values() if isinstance(method, FolderMethod)}
    experiments = (folder / "experiments").absolute()
    return {
        row.experiment: known.method("full")
        if row.experiment.startswith(FULL)
        else by_path[experiments / row.experiment]
        for row in rows
    }


def pattern(folder: Path) -> str:
    """Return what `--peftbench-methods` is given."""
    return f"{(folder / 'experiments').absolute()}/*/*"


def header_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Return the bytes that a safetensors file of these tensors has beside them: names, types, shapes, places."""
    order = list(TYPES)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (order.index(item[1].dtype), item[0])):
        ends = [place, place := place + tensor.numel() * tensor.element_size()]
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": ends}
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return ALIGNMENT + -(-length // ALIGNMENT) * ALIGNMENT


def count(method: Method, model: PreTrainedModel, application: Application) -> tuple[Counted, Shapes]:
    """Apply a method to a model; count what it trains and what its checkpoint holds, and return the shapes in that."""
    device = model.device.type
    with torch.device(device), nullcontext() if device == "meta" else WithoutDecompositions():
        applied: Any = method.apply(model, application)
    saved = _saved(applied, method)
    parameters = applied.named_parameters()  # each once
    sizes = {name: (p.numel(), p.requires_grad) for name, p in parameters}
    frozen = getattr(method, "frozen", "")
    found = Counted(
        trained=sum(size for size, trained in sizes.values() if trained),
        total=sum(size for size, _ in sizes.values()),
        tensor_bytes=sum(tensor.numel() * tensor.element_size() for tensor in saved.values()),
        header_bytes=header_bytes(saved),
        device=device,
        frozen=sum(size for name, (size, _) in sizes.items() if frozen and frozen in name),
        pruned_bytes=pruned_bytes(applied.peft_config["default"], saved) if isinstance(method, FolderMethod) else None,
    )
    return found, {name: tuple(tensor.shape) for name, tensor in saved.items()}


def _saved(applied: Any, method: Method) -> Mapping[str, torch.Tensor]:  # noqa: ANN401 - PEFT's model, or a plain one
    """Return the tensors of a checkpoint."""
    if not isinstance(method, FolderMethod):
        return {name: p for name, p in applied.named_parameters() if p.requires_grad}
    from peft import get_peft_model_state_dict

    for name, encoder in getattr(applied, "prompt_encoder", {}).items():
        encoder.to_empty(device="cpu")  # a prompt is computed when it is saved, which `meta` cannot
        applied.prompt_tokens[name] = torch.zeros(applied.prompt_tokens[name].shape, dtype=torch.long)
    saved: Mapping[str, torch.Tensor] = get_peft_model_state_dict(applied, save_embedding_layers=False)
    return saved


def pruned_bytes(config: Any, saved: Mapping[str, torch.Tensor]) -> tuple[int, int] | None:  # noqa: ANN401 - PEFT's
    """Return the least and the most bytes that AdaLoRA's tensors have once its budget of ranks is reached."""
    if config.peft_type.value != "ADALORA":
        return None
    sides = {"lora_A": 0, "lora_B": 1, "lora_E": 0}
    each: dict[str, int] = {}
    ranks: dict[str, int] = {}
    for name, tensor in saved.items():
        layer, _, side = name.rpartition(".")
        ranks[layer] = tensor.shape[sides[side]]
        each[layer] = each.get(layer, 0) + tensor.numel() * tensor.element_size() // ranks[layer]
    budget = config.target_r * len(each)

    def filled(order: Iterable[str]) -> int:
        left, size = budget, 0
        for layer in order:
            taken = min(left, ranks[layer])
            left, size = left - taken, size + taken * each[layer]
        return size

    cheapest = sorted(each, key=each.__getitem__)
    return filled(cheapest), filled(reversed(cheapest))


def counted(method: Method, source: ModelSource, catalogue: Catalogue, *, file_bytes: int = 0) -> Counted | str:
    """Count on `meta`, else on the CPU; return the reason where neither can.

    Args:
        method: What is counted.
        source: Its model.
        catalogue: What knows the task.
        file_bytes: The bytes of PEFT's checkpoint. If weights were looked at and there are others here, it is counted
            again with other weights: shapes may follow from them.
    """
    application = Application(task=catalogue.task(TASK))

    def on(device: str, seed: int = 0) -> tuple[Counted, Shapes]:
        gc.collect()
        where = torch.device(device)
        model = building.build_model(source, application.task, seed=seed, dtype="bfloat16", device=where)
        return count(method, model, application)

    try:
        method.check({})
        return on("meta")[0]
    except (PeftbenchError, RuntimeError, TypeError, ValueError):
        pass  # it looks at weights
    try:
        found, shapes = on("cpu")
        if found.file_bytes == file_bytes:
            return found
        others = on("cpu", seed=1)[1]
        return replace(found, fickle=sum(shape != others.get(name) for name, shape in shapes.items()))
    except (PeftbenchError, RuntimeError, TypeError, ValueError) as error:
        return " ".join(f"{type(error).__name__}: {error}".split())


def explanation(row: Published, found: Counted) -> str:
    """Return what makes the two sides differ, '' where they are equal, `?` where nothing known does."""
    reasons = []
    if found.frozen:
        reasons.append(f"the optimizer of training_params.json leaves {found.frozen:,} parameters as they are")
    if row.trained != found.trained or row.total != found.total:
        reasons.append("? parameters")
    if row.file_bytes != found.file_bytes:
        reasons.append(_explained_bytes(row, found))
    return "; ".join(reasons)


def _explained_bytes(row: Published, found: Counted) -> str:
    if row.file_bytes == found.tensor_bytes:
        return f"PEFT gives the bytes of the tensors; the file's header has {found.header_bytes:,} more"
    if found.pruned_bytes is not None:
        least, most = found.pruned_bytes
        if least <= row.file_bytes - found.header_bytes <= most:
            return (
                f"PEFT saved it after a training, which took ranks away: its tensors then have {least:,} to {most:,} "
                "bytes; here it is saved before"
            )
    header = row.file_bytes - found.tensor_bytes
    if found.fickle and abs(header / found.header_bytes - 1) < NEAR:
        return (
            f"the shapes of {found.fickle:,} of its tensors follow from the values of the weights, and the header of "
            f"the file names them: it has {header:,} bytes there and {found.header_bytes:,} here"
        )
    return "? bytes"


def table(rows: Sequence[Published], counts: Mapping[str, Counted], times: Mapping[str, Measured]) -> Iterator[str]:
    """Yield a table in Markdown, and what it says as a whole.

    Args:
        rows: What PEFT published.
        counts: What was counted here, by experiment.
        times: What was measured here, by experiment.
    """
    theirs = {row.experiment: row for row in rows}
    heads = ("trained", "bytes", "x time", "x memory") if times else ("trained", "bytes")
    yield f"| experiment | {' | '.join(f'{head}, PEFT | here' for head in heads)} | why |"
    yield f"| --- | {' | '.join(['---:'] * 2 * len(heads))} | --- |"
    for row in rows:
        if found := counts.get(row.experiment):
            cells = [
                *(f"{row.trained:,}", _beside(row.trained, found.trained)),
                *(f"{row.file_bytes:,}", _beside(row.file_bytes, found.file_bytes)),
                *(_ratios(row.experiment, theirs, times) if times else ()),
            ]
            yield f"| {row.experiment} | {' | '.join(cells)} | {explanation(row, found)} |"
    yield ""
    yield from _summary(rows, counts, times)


def _ratios(name: str, theirs: Mapping[str, Published], times: Mapping[str, Measured]) -> tuple[str, ...]:
    """Return time there and here, and memory there and here, over those of the reference; '' where one is missing."""
    row, base, mine, lora = theirs[name], theirs.get(REFERENCE), times.get(name), times.get(REFERENCE)
    there = [_ratio(row.step_ms, base.step_ms), _ratio(row.memory_bytes, base.memory_bytes)] if base else ["", ""]
    here = ["", ""]
    if mine and lora:
        here = [_ratio(mine.step_s, lora.step_s), _ratio(mine.peak_bytes, lora.peak_bytes)]
    return there[0], here[0], there[1], here[1]


def _ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}"


def _beside(there: int, here: int) -> str:
    return "=" if there == here else f"{here:,}"


def _summary(rows: Sequence[Published], counts: Mapping[str, Counted], times: Mapping[str, Measured]) -> Iterator[str]:
    seen = [(row, counts[row.experiment]) for row in rows if row.experiment in counts]
    trained = sum(row.trained == found.trained for row, found in seen)
    totals = sum(row.total == found.total for row, found in seen)
    files = sum(row.file_bytes == found.file_bytes for row, found in seen)
    unexplained = [row.experiment for row, found in seen if "?" in explanation(row, found)]
    yield (
        f"{len(seen)} of {len(rows)} experiments are counted: trained parameters are equal in {trained}, all "
        f"parameters in {totals}, bytes of the checkpoint in {files}. Without an explanation: "
        f"{', '.join(unexplained) or 'none'}."
    )
    pairs = [(row, times[row.experiment]) for row in rows if row.experiment in times]
    if len(pairs) > 2:  # noqa: PLR2004 - two are always in order
        time_rho = rank_correlation([(row.step_ms, found.step_s) for row, found in pairs])
        memory_rho = rank_correlation([(row.memory_bytes, found.peak_bytes) for row, found in pairs])
        yield (
            f"Rank correlation (Spearman) over {len(pairs)} experiments: {time_rho:.3f} of step times, "
            f"{memory_rho:.3f} of memory."
        )
    else:
        yield "No times were measured here: step time and memory are not compared."


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Return Spearman's correlation of pairs."""
    from scipy.stats import spearmanr

    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def measure(folder: Path, run: Path, model: str) -> None:
    """Time the step of every experiment, and write the run file."""
    options = {
        "model": model,
        "tasks": TASK,
        "methods": f"{pattern(folder)},full",
        "workloads": "train_step",
        "batch-sizes": "4",
        "seq-len": "768",
        "dtype": "bfloat16",
        "json": str(run),
    }
    command = [sys.executable, "-m", "pytest", "benches/bench_train_step.py", "--benchmark-only", "-q"]
    words = [f"--peftbench-{name}={value}" for name, value in options.items()]
    subprocess.run([*command, *words], cwd=Path(__file__).parents[1], check=False)  # noqa: S603 - this interpreter


def times_of(run: Path, methods: Mapping[str, Method]) -> dict[str, Measured]:
    """Return time and memory of each experiment's step in a run file."""
    steps = {record.method: record for record in load_run(run).records if record.workload == "train_step"}
    found = {}
    for experiment, method in methods.items():
        record = steps.get(method.name)
        values = [record.metrics[name].value for name in ("time_s", "peak_bytes")] if record and record.metrics else []
        if values and values[0] is not None and values[1] is not None:
            found[experiment] = Measured(values[0], values[1])
    return found


def count_all(
    chosen: Mapping[str, Method], keep: Path | None, count_one: Callable[[str, Method], Counted | str]
) -> dict[str, Counted]:
    """Count what is not kept yet; a line on standard error for each."""
    kept: dict[str, Any] = json.loads(keep.read_text()) if keep and keep.exists() else {}
    for experiment, method in chosen.items():
        if experiment in kept:
            continue
        start = time.perf_counter()
        found = count_one(experiment, method)
        if isinstance(found, str):
            sys.stderr.write(f"{experiment}: cannot be counted: {found}\n")
            continue
        kept[experiment] = asdict(found)
        sys.stderr.write(f"{experiment}: counted on {found.device} in {time.perf_counter() - start:.1f} s\n")
        if keep:
            keep.write_text(json.dumps(kept, indent=1))
    return {name: Counted(**kept[name]) for name in chosen if name in kept}


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, measure where it is asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="experiments, as in `lora/*`")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="file of counts, read and added to")
    parser.add_argument("--run", type=Path, metavar="FILE", help="run file with train steps of the experiments")
    parser.add_argument("--measure", type=Path, metavar="FILE", help="measure the steps, and write this run file")
    parser.add_argument("--model", default=SHAPE, help="preset that is measured; default: %(default)s")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    catalogue = Catalogue.load()
    source = resolve(SHAPE, catalogue.models)
    rows = [row for row in published(options.folder) if fnmatch(row.experiment, options.only)]
    methods = methods_of(options.folder, rows, catalogue)
    if options.measure:
        measure(options.folder, options.measure.absolute(), options.model)
    run = options.measure or options.run
    sizes = {row.experiment: row.file_bytes for row in rows}
    counts = count_all(
        methods, options.keep, lambda name, method: counted(method, source, catalogue, file_bytes=sizes[name])
    )
    for line in table(rows, counts, times_of(run, methods) if run else {}):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
