"""What the user asked for: each option once, for the command line, the ini file and `[tool.peftbench]` alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar

from peftbench.config.choices import ATTENTIONS, DTYPES, OPTIMIZERS, REFERENCES, STOPS
from peftbench.config.options import Option, above_zero, at_least, comma_separated, each, flag, fraction, one_of, option
from peftbench.errors import UserError, unknown
from peftbench.gate.rule import Rule

T = TypeVar("T")

DEFAULT_METHODS: Final = "full,head,bitfit,lora,dora,rslora,ia3,adalora,prefix,ln-tuning,vera,oft"
GATE: Final = "gate_"
"""What the names of options begin with that are constants of the gate's rule."""


def _target(text: str) -> str:
    from peftbench.config.target import QualityTarget

    QualityTarget.read(text)
    return text


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of a run; the field `batch_sizes` is `--peftbench-batch-sizes` and ini `peftbench_batch_sizes`."""

    model: str = option(
        "auto",
        "a preset, a local folder or a hub id; auto: `tiny` on a CPU, `xlmr-base` on CUDA",
        identity=True,
    )
    methods: tuple[str, ...] = option(
        (),
        "methods or families (default, paper, peft, all), comma-separated; `lora(r=16)` overrides a configuration",
        parse=comma_separated,
        metavar="LIST",
    )
    tasks: tuple[str, ...] = option((), "tasks, comma-separated; default: all", parse=comma_separated, metavar="LIST")
    workloads: tuple[str, ...] = option(
        (),
        "workloads, comma-separated, or all (but studies); default: train_step and inference, and those of named files",
        parse=comma_separated,
        metavar="LIST",
    )
    batch_sizes: tuple[int, ...] = option(
        (),
        "batch sizes, comma-separated; default: 1,8, of trainings 32",
        parse=each(at_least(1, int)),
        metavar="LIST",
    )
    seq_len: int | None = option(
        None,
        "tokens in each sequence; default: the preset's, else the task's maximum",
        parse=at_least(1, int),
        metavar="TOKENS",
        identity=True,
    )
    dtype: str = option(
        "float32", f"of weights and computation: {', '.join(DTYPES)}", parse=one_of(*DTYPES), identity=True
    )
    autocast: bool = flag("weights in float32, operators in --peftbench-dtype where that is safe", identity=True)
    tf32: bool = flag("float32 matrix products on tensor cores (CUDA)", identity=True)
    attention: str = option(
        "sdpa", f"implementation of attention: {', '.join(ATTENTIONS)}", parse=one_of(*ATTENTIONS), identity=True
    )
    optimizer: str = option(
        "fused", f"implementation of AdamW: {', '.join(OPTIMIZERS)}", parse=one_of(*OPTIMIZERS), identity=True
    )
    compile: bool = flag("compile each model with torch.compile, from scratch", identity=True)
    gradient_checkpointing: bool = flag("keep no activations of a layer; compute them again", identity=True)
    device: str = option("auto", "cpu, cuda, cuda:N; auto: CUDA where there is one", identity=True)
    threads: int = option(
        1, "CPU threads of one operator; default: 1", parse=at_least(1, int), metavar="N", identity=True
    )
    data: str = option(
        "synthetic",
        "synthetic, hub, or a folder with <task>/<split>.{jsonl,json,csv,parquet}",
        metavar="SOURCE",
        identity=True,
    )
    seed: int = option(
        0, "of weights, data and the order of rounds", parse=at_least(0, int), metavar="N", identity=True
    )
    rounds: int | None = option(
        None,
        "exactly this many rounds a case; default: until the interval is narrow or --peftbench-max-time is spent",
        parse=at_least(1, int),
        metavar="N",
    )
    max_time: float | None = option(
        None,
        "seconds for the rounds of a case and its reference; default: 0.9 on a CPU preset, else 5",
        parse=at_least(0, float),
        metavar="SECONDS",
    )
    reference: str = option(
        "base",
        "what each round alternates with: base (head trained, backbone frozen, gradients through it), full, or none",
        parse=one_of(*REFERENCES),
        identity=True,
    )
    seeds: int = option(
        3,
        "trainings of each method, with the seeds --peftbench-seed, + 1, ...",
        parse=at_least(1, int),
        metavar="N",
    )
    learning_rates: tuple[float, ...] = option(
        (3e-5, 1e-4, 3e-4, 1e-3),
        "of trainings: the first is used for every method, and so is the one of all that is a method's best with the "
        "first seed; default: 3e-5,1e-4,3e-4,1e-3",
        parse=each(above_zero),
        metavar="LIST",
        studies=True,
    )
    epochs: float = option(10.0, "budget of a training", parse=above_zero, metavar="EPOCHS", studies=True)
    stop: str = option(
        "patience",
        "what ends a training: patience (early stopping), target (as soon as it is reached), or budget alone",
        parse=one_of(*STOPS),
        studies=True,
    )
    patience: float = option(
        3.0,
        "epochs without improvement after which a training stops",
        parse=above_zero,
        metavar="EPOCHS",
        studies=True,
    )
    eval_every: int | None = option(
        None,
        "steps between evaluations; default: a quarter of an epoch",
        parse=at_least(1, int),
        metavar="STEPS",
        studies=True,
    )
    target: str = option(
        "97%",
        "quality to which costs are compared: a score, or a share of full fine-tuning's",
        parse=_target,
        metavar="SCORE",
        studies=True,
    )
    metric: str | None = option(None, "the score that trainings are judged by; default: the task's own", studies=True)
    train_rows: int | None = option(
        None, "at most so many rows to train on", parse=at_least(1, int), metavar="N", studies=True
    )
    eval_rows: int | None = option(
        None, "at most so many rows of each set to evaluate on", parse=at_least(1, int), metavar="N", studies=True
    )
    group_by_length: bool = flag("train on batches of examples of like length, with less padding", studies=True)
    test_data: tuple[str, ...] = option(
        (),
        "evaluate what was trained on these as well: splits of --peftbench-data (test.hi), or folders like it",
        parse=comma_separated,
        metavar="LIST",
        studies=True,
    )
    serve: tuple[int, ...] = option(
        (1, 2, 4, 8, 16),
        "numbers of tasks that are deployed together; default: 1,2,4,8,16",
        parse=each(at_least(1, int)),
        metavar="LIST",
    )
    requests: int = option(200, "requests that a deployment serves", parse=at_least(1, int), metavar="N", studies=True)
    json: Path | None = option(None, "write all records to this file", parse=Path, metavar="FILE")
    resume: bool = flag("take finished cases from the journal of a killed run")
    work: Path | None = option(
        None,
        "folder of the journal and of launches; default: .peftbench in pytest's root directory",
        parse=Path,
        metavar="DIR",
    )
    launches: int | None = option(
        None,
        "run the cases in this many fresh processes, and report medians over them",
        parse=at_least(1, int),
        metavar="N",
    )
    launch_timeout: float | None = option(
        None, "seconds after which a process is killed; costs that launch only", parse=above_zero, metavar="SECONDS"
    )
    record: bool = flag("take launches enough for `peftbench accept` (5, or --peftbench-launches)")
    gate: bool = flag("compare with the baseline; a regression is a red test and exit status 1")
    baseline: Path | None = option(
        None, "folder of baselines; default: baselines in pytest's root directory", parse=Path, metavar="DIR"
    )
    against: str = option(
        "",
        'another state of the code, run in lock-step with this one: a git revision, requirements ("peft==0.20.0"), '
        "or both, separated by spaces",
        metavar="STATE",
    )
    pairs: int = option(5, "pairs of processes in lock-step; default: 5", parse=at_least(2, int), metavar="N")
    strict: bool = flag("fail on inconclusive, missing and not comparable cases too, and without a baseline")
    diff_json: Path | None = option(None, "write the comparison to this file", parse=Path, metavar="FILE")
    bencher_json: Path | None = option(
        None, "write the run to this file in Bencher's metric format (BMF)", parse=Path, metavar="FILE"
    )
    action_json: Path | None = option(
        None, "write the run to this file for github-action-benchmark", parse=Path, metavar="FILE"
    )
    shard: tuple[int, int] | None = option(
        None, "run a stable part of the cases: 3/16 is the third of sixteen", parse=fraction, metavar="K/N"
    )
    gpus: tuple[str, ...] = option(
        (),
        "spread the cases over one process a GPU: all, or indices or UUIDs, comma-separated",
        parse=comma_separated,
        metavar="LIST",
    )
    rule: Rule = field(default_factory=Rule)
    """When the gate calls a case slower: the options `--peftbench-gate-*`."""

    @classmethod
    def read(cls, *sources: Mapping[str, object]) -> Self:
        """Read the settings from mappings of field name to text (or list, number), the first that has one wins.

        Raises:
            UserError: a value that cannot be read, with what is allowed.
        """
        values: dict[str, Any] = {}
        for name, one in options().items():
            given = next((source[name] for source in sources if source.get(name) not in (None, "")), None)
            if given is not None:
                values[name] = _parse(name, one, given)
        constants = {name.replace("_", "-"): values.pop(GATE + name, None) for name in _constants()}
        settings = cls(**values, rule=Rule.from_options(constants))
        settings._refuse_contradictions()
        return settings

    def _refuse_contradictions(self) -> None:
        modes = {name: bool(getattr(self, name)) for name in ("record", "gate", "against")}
        given = [flag_name(name) for name, value in modes.items() if value]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)}: give one of them; each says what the launches are for")
        for name in ("resume", "gpus", "launches"):
            if self.against and getattr(self, name):
                raise UserError(f"{flag_name(name)} cannot be combined with {flag_name('against')}")
        if self.gpus and self.device not in ("auto", "cuda"):
            raise UserError(f"--peftbench-gpus and --peftbench-device={self.device}: give one of them")
        if self.reference == "none" and (self.record or self.gate):
            raise UserError(
                f"{given[0]} needs a reference: times are compared as ratios to it; not --peftbench-reference=none"
            )

    def identity(self, *, studies: bool = False) -> dict[str, object]:
        """Return the settings that change a number, with those that change only studies or without, as JSON types."""
        chosen = {name for name, one in options().items() if one.identity or (studies and one.studies)}
        values = {name: getattr(self, name) for name in options() if name in chosen}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@cache
def options() -> Mapping[str, Option]:
    """Return every option by the name of its field; those of the gate's rule begin with `gate_`."""
    own = {item.name: item.metadata["option"] for item in dataclasses.fields(Settings) if item.name != "rule"}
    return MappingProxyType(own | {GATE + name: constant for name, constant in _constants().items()})


def _constants() -> dict[str, Option]:
    """Return the constants of the gate's rule as options, by name."""
    return {
        constant.name.replace("-", "_"): Option(
            help=f"gate: {constant.help}; default: {constant.default:g}",
            parse=constant.type,
            metavar="N" if constant.type is int else "SHARE",
            flag=False,
            identity=False,
            studies=False,
        )
        for constant in Rule.options()
    }


def flag_name(name: str) -> str:
    """Return the command-line spelling of a field: `--peftbench-batch-sizes`."""
    return "--peftbench-" + name.replace("_", "-")


def refuse_unknown(table: Mapping[str, object]) -> None:
    """Raise UserError for a key of `[tool.peftbench]` that is no option."""
    known = {name.replace("_", "-") for name in options()}
    for key in table:
        if key.replace("_", "-") not in known:
            raise unknown("key in [tool.peftbench]:", key, known)


def _parse(name: str, how: Option, given: object) -> object:
    text = ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    try:
        value = how.parse(text)
    except (ValueError, UserError) as error:
        raise UserError(f"{flag_name(name)}={text}: {error}; {how.help}") from None
    if value == ():
        raise UserError(f"{flag_name(name)}={text}: names nothing; {how.help}")
    return value
