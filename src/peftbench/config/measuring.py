"""The settings of what is measured, how, and on which model and data."""

from __future__ import annotations

from dataclasses import dataclass

from peftbench.config.choices import ATTENTIONS, AUTO, DTYPES, ENERGIES, EXECUTIONS, OPTIMIZERS, REFERENCES
from peftbench.config.options import Question, flag, option
from peftbench.config.parsing import (
    MOST,
    comma_separated,
    each,
    one_of,
    sampling_rate,
    seconds,
    whole,
)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Settings` has its own: start-up counts
class MeasuringSettings:
    """What is measured, how, and on which model and data."""

    methods: tuple[str, ...] = option(
        (),
        "methods, families (default, paper, peft, all), or folders of adapters (./my-adapter, ./adapters/*), "
        "comma-separated; lora(r=16) overrides a configuration",
        Question.WHAT,
        parse=comma_separated,
        metavar="LIST",
    )
    tasks: tuple[str, ...] = option(
        (),
        "tasks, comma-separated; default: all; of train_step and inference on CUDA: nli,ner",
        Question.WHAT,
        parse=comma_separated,
        metavar="LIST",
    )
    workloads: tuple[str, ...] = option(
        (),
        "workloads and studies, comma-separated; all: every workload; default: train_step, inference, "
        "and the workloads of files that are named",
        Question.WHAT,
        parse=comma_separated,
        metavar="LIST",
    )
    batch_sizes: tuple[int, ...] = option(
        (),
        "batch sizes, comma-separated; default: 1,8, and 32 for trainings; of train_step and inference on CUDA: 8,32",
        Question.WHAT,
        parse=each(whole(1, MOST)),
        metavar="LIST",
    )
    reference: str = option(
        "base",
        "the step that rounds of the case alternate with: base (backbone frozen, head trained, gradients through the "
        "backbone), full, or none; default: base",
        Question.HOW,
        parse=one_of(*REFERENCES),
        identity=True,
    )
    rounds: int | None = option(
        None,
        "number of rounds of each case; default: rounds go on until the interval is narrow or "
        "--peftbench-max-time is spent",
        Question.HOW,
        parse=whole(1),
        metavar="N",
    )
    max_time: float | None = option(
        None,
        "seconds for the rounds of a case and its reference; default: 0.9 for a preset on a CPU, 1.5 on CUDA, else 5",
        Question.HOW,
        parse=seconds,
        metavar="SECONDS",
    )
    dtype: str = option(
        AUTO,
        f"dtype of weights and computation: {', '.join(DTYPES)}; default (auto): float32, and bfloat16 under "
        "autocast on a CUDA device that has it",
        Question.HOW,
        parse=one_of(AUTO, *DTYPES),
        identity=True,
    )
    autocast: bool = flag(
        "keep weights in float32, and run operators in --peftbench-dtype where that is safe",
        Question.HOW,
        identity=True,
    )
    tf32: bool = flag("run float32 matrix products on tensor cores in TF32 (CUDA)", Question.HOW, identity=True)
    attention: str = option(
        "sdpa",
        f"implementation of attention: {', '.join(ATTENTIONS)}; default: sdpa",
        Question.HOW,
        parse=one_of(*ATTENTIONS),
        identity=True,
    )
    optimizer: str = option(
        "fused",
        f"implementation of AdamW: {', '.join(OPTIMIZERS)}; default: fused",
        Question.HOW,
        parse=one_of(*OPTIMIZERS),
        identity=True,
    )
    execution: str = option(
        "eager",
        "how a round is executed: eager (as written), compile (each model by torch.compile, without its caches), "
        "compile:reduce-overhead, compile:max-autotune, or graph (the whole round is replayed as a CUDA graph); "
        "default: eager",
        Question.HOW,
        parse=one_of(*EXECUTIONS),
        identity=True,
    )
    energy: str = option(
        "auto",
        "joules of a round on a GPU: auto (where the GPU has a counter), on (refuse a device without one), or off; "
        "default: auto",
        Question.HOW,
        parse=one_of(*ENERGIES),
    )
    sampling_rate: float = option(
        20.0,
        "samples of memory, power, clock, utilization and temperature in a second, while energy is measured; "
        "default: 20",
        Question.HOW,
        parse=sampling_rate,
        metavar="HERTZ",
    )
    gradient_checkpointing: bool = flag(
        "compute activations again in the backward pass, to save memory", Question.HOW, identity=True
    )
    seed: int = option(
        0,
        "seed of weights, data and the order of rounds; default: 0",
        Question.HOW,
        parse=whole(0),
        metavar="N",
        identity=True,
        pools=True,
    )
    model: str = option(
        "auto",
        "a preset, a local folder or a hub id; default (auto): tiny on a CPU, xlmr-base on CUDA",
        Question.MODEL,
        identity=True,
    )
    seq_len: int | None = option(
        None,
        "tokens of each sequence; default: the preset's length, else the task's",
        Question.MODEL,
        parse=whole(1, MOST),
        metavar="TOKENS",
        identity=True,
    )
    data: str = option(
        "synthetic",
        "synthetic, hub, or a folder that holds <task>/<split>.{jsonl,json,csv,parquet}[.gz]; default: synthetic",
        Question.MODEL,
        metavar="SOURCE",
        identity=True,
    )
    packing: bool = flag(
        "let examples share a sequence where there is room, without attention between them (task sft)",
        Question.MODEL,
        identity=True,
        added=True,
    )
