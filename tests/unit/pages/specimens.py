"""Files of every kind for pages, made by hand: runs with studies, comparisons, histories."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice, product
from random import Random
from typing import Any

from tests import records
from tests.records import FINGERPRINT, a_record

from peftbench.measure.energy.nvml import Reading
from peftbench.measure.energy.sampler import timeline
from peftbench.pages.sources import NamedFile, Sources
from peftbench.records.history import History, Stage, Step
from peftbench.records.record import (
    CurvePoint,
    KernelTime,
    Launch,
    LoadPoint,
    Metric,
    OperatorShare,
    Record,
    Run,
    record_from_json,
    record_to_json,
)
from peftbench.report.diffs import Diff, DiffCase, MovedLine, SuiteLine, TimeLine, read_diff

SETTINGS: dict[str, Any] = {**records.SETTINGS, "threads": 1, "autocast": False, "compile": False, "seed": 0}
METHODS = ("full", "head", "bitfit", "lora", "dora", "rslora", "ia3", "adalora", "prefix", "ln-tuning", "vera", "oft")
TASKS = ("nli", "sentiment", "paraphrase", "ner", "qa", "copa")
RATIOS = {"full": 1.3, "lora": 1.1, "houlsby": 1.2, "ia3": 1.15}
OPERATORS = tuple(f"aten::operator_{number}" for number in range(45))


def timed(value: float, unit: str = "s", spread: float = 0.05) -> Metric:
    return Metric(value, unit, noise="timed", low=value * (1 - spread), high=value * (1 + spread))


def case(workload: str, method: str, task: str, batch_size: int, draw: Random) -> Record:
    """Return a case with as many numbers as a real one has."""
    time_s = draw.uniform(0.005, 0.02) * batch_size
    sizes = {name: draw.randrange(10**6, 10**8) for name in ("weights_bytes", "optimizer_bytes", "peak_live_bytes")}
    counts = ("operator_calls", "saved_bytes", "allocations", "python_calls", "bytecodes", "checkpoint_bytes")
    return a_record(
        method,
        workload=workload,
        task=task,
        batch_size=batch_size,
        metrics={
            "time_s": timed(time_s),
            "first_s": Metric(2 * time_s, "s", noise="timed"),
            "tokens_per_s": timed(32 * batch_size / time_s, "token/s"),
            **{f"{phase}_s": timed(time_s / 3) for phase in ("forward", "backward", "optimizer")},
            "reference_s": timed(time_s / 1.2),
            "ratio": timed(RATIOS.get(method, 1.25) * draw.uniform(0.98, 1.02), "1", 0.02),
            **{name: Metric(size, "B") for name, size in sizes.items()},
            "peak_bytes": Metric(sum(sizes.values()), "B"),
            "flops": Metric(draw.randrange(10**7, 10**9), "FLOP"),
            **{name: Metric(draw.randrange(10**3, 10**6), "1") for name in counts},
            "trainable_body": Metric(draw.randrange(10**3, 10**6), "1"),
            "trainable_head": Metric(387, "1"),
            "energy_j": Metric(None, "J", reason="there is no GPU"),
        },
        launches=(Launch("2026-01-01-abc123", 30, time_s, time_s / 1.2, math.log(1.2), 0.001),),
        operators={name: draw.randrange(1, 90) for name in OPERATORS},
        longest_operators=tuple(
            OperatorShare(name, draw.randrange(1, 90), round(draw.random() / 10, 4)) for name in OPERATORS[:10]
        ),
        modules={f"encoder.layer.*.part_{number}": draw.randrange(1, 10**5) for number in range(6)},
        quantiles_s=tuple(time_s * share for share in (0.9, 0.93, 0.97, 1.0, 1.04, 1.1, 1.5)),
        stop="precision",
        warnings=("launch-bound: the host, not the device, sets the time",) if draw.random() < 0.1 else (),
    )


def on_gpu(record: Record) -> Record:
    """Return a case as one of a GPU that was read 200 times, by way of the file format."""
    read: list[tuple[float, dict[str, Reading[int] | Reading[float]]]] = [
        (
            place / 20,
            {
                "device_bytes": Reading(2 * 10**9 + 10**6 * place),
                "power_w": Reading(90.0 + place),
                "temperature_c": Reading(40 + place // 10),
                **({"process_bytes": Reading(10**9 + 10**6 * place)} if place % 5 == 0 else {}),
            },
        )
        for place in range(200)
    ]
    kernels = tuple(
        KernelTime(f"void ampere_sgemm_{number}x64<float, {number}>(float const*, int)", "matmul", number, number / 1e4)
        for number in range(10, 0, -1)
    )
    spent = {"matmul": 0.0055, "copy": 0.0005, "attention": 0.0}
    families = {f"{name}_kernels_s": Metric(time_s, "s", noise="sampled") for name, time_s in spent.items()}
    made = replace(
        record,
        metrics={**record.metrics, **families},
        timeline=timeline(read),
        longest_kernels=kernels,
        longest_operators=None,
    )
    return record_from_json(record_to_json(made))


def large_run(cases: int) -> Run:
    """Return a run with so many cases."""
    draw = Random(0)
    rooms = product(range(1, cases + 1), ("train_step", "inference"), TASKS, METHODS)
    records = (case(workload, method, task, size, draw) for size, workload, task, method in rooms)
    return Run(FINGERPRINT, SETTINGS, tuple(islice(records, cases)), {"noise": {}})


def at(day: int, *, lora: float = 1.0, peak: float = 0.0, cpu: str = "A Processor", **fingerprint: str) -> Run:
    """Return a run of a commit of one day, with LoRA's time times a factor and some bytes more at its peak."""
    run = large_run(4)

    def changed(record: Record) -> Record:
        if record.method != "lora":
            return record
        ratio, bytes_ = record.metrics["ratio"], record.metrics["peak_bytes"]
        assert ratio.value is not None
        assert ratio.low is not None
        assert ratio.high is not None
        assert bytes_.value is not None
        slower = replace(ratio, value=ratio.value * lora, low=ratio.low * lora, high=ratio.high * lora)
        metrics = {**record.metrics, "ratio": slower, "peak_bytes": Metric(bytes_.value + peak, "B")}
        return replace(record, metrics=metrics)

    notes = {
        "commit": f"v0.{day}",
        "committed": f"2026-01-{day:02}T10:00:00+00:00",
        "measured": f"2026-02-{30 - day}T10:00:00+00:00",
    }
    return Run({**FINGERPRINT, "cpu": cpu, **fingerprint}, run.settings, tuple(map(changed, run.records)), notes)


def training(method: str, seed: int, qualities: tuple[float, ...], step_s: float) -> Record:
    """Return a training whose evaluations have these qualities."""
    curve = tuple(
        CurvePoint(step=10 * place, examples=80 * place, time_s=step_s * place, quality=quality, flops=1e9 * place)
        for place, quality in enumerate(qualities, start=1)
    )
    return a_record(
        method,
        workload="convergence",
        metrics={"peak_bytes": Metric(5e6, "B", noise="sampled"), "trainable_body": Metric(1000, "1")},
        variant={"seed": seed, "lr": 0.001},
        curve=curve,
    )


def trainings() -> tuple[Record, ...]:
    """Return trainings of three methods with three seeds: lora is cheapest, houlsby never reaches the target."""
    return tuple(
        training(method, seed, tuple(round(quality + 0.004 * seed, 3) for quality in qualities), step_s)
        for method, step_s, qualities in (
            ("full", 2.0, (0.5, 0.7, 0.8, 0.8)),
            ("lora", 1.0, (0.45, 0.6, 0.79, 0.8)),
            ("houlsby", 1.5, (0.4, 0.5, 0.55, 0.55)),
        )
        for seed in range(3)
    )


def loads(capacity_per_s: float) -> tuple[LoadPoint, ...]:
    """Return a server of this capacity under loads of which it cannot keep up with the two highest."""
    return tuple(
        LoadPoint(
            offered_per_s=share * capacity_per_s,
            achieved_per_s=min(share, 1.0) * capacity_per_s,
            requests=200,
            unfinished=round(200 * max(0.02, 1 - 1 / share)),
            lot_size=min(8.0, 8 * share),
            longest_s=4 * wait_s,
            p50_s=wait_s,
            p95_s=3 * wait_s if share < 1 else None,
        )
        for share, wait_s in ((0.5, 0.005), (0.75, 0.008), (0.9, 0.02), (1.25, 0.2), (1.5, 0.4))
    )


def deployments() -> tuple[Record, ...]:
    """Return two ways to serve 1, 4 and 8 tasks."""
    return tuple(
        a_record(
            method,
            workload="deployment",
            metrics={
                **{
                    f"{mix}_p{percent}_s": Metric(base_s * (1 + count * slope) * factor, "s", noise="timed")
                    for mix in ("uniform", "skewed")
                    for percent, factor in ((50, 1.0), (95, 1.6), (99, 2.0))
                },
                "resident_bytes": Metric(1e6 * (count if way == "models" else 1 + 0.1 * count), "B"),
            },
            variant={"by": way, "n": count},
            loads=loads(8 / base_s / (1 + count * slope)),
        )
        for method, way, base_s, slope in (("full", "models", 0.004, 0.0), ("lora", "switch", 0.005, 0.1))
        for count in (1, 4, 8)
    )


def merges() -> tuple[Record, ...]:
    """Return ways to keep three tasks, with two seeds."""
    return tuple(
        a_record(
            method,
            workload="merging",
            task="nli+ner",
            metrics={
                "quality_ratio": Metric(left + 0.01 * seed, "1", better="higher", noise="sampled"),
                "worst_quality_ratio": Metric(left - 0.1, "1", better="higher", noise="sampled"),
                "quality": Metric(0.8 * left, "1", better="higher", noise="sampled"),
                "stored_bytes": Metric(1e6 * share, "B"),
                "bytes_ratio": Metric(share, "1"),
                "merge_s": Metric(merge_s, "s", noise="timed", reason="" if merge_s else "nothing is merged"),
            },
            variant={"seed": seed, "by": way},
        )
        for method, way, left, share, merge_s in (
            ("lora", "own", 1.0, 1.0, None),
            ("lora", "cat", 0.9, 1.0, 0.02),
            ("lora", "svd", 0.85, 0.55, 0.3),
            ("lora", "heads", 0.6, 0.1, None),
            ("ia3", "linear", 0.8, 0.3, 0.01),
        )
        for seed in range(2)
    )


def small_run() -> Run:
    """Return a run with steps, trainings and serving, and with cases that have no numbers."""
    draw = Random(1)
    steps = [
        case(workload, method, task, size, draw)
        for workload, task, size, method in product(
            ("train_step", "inference"), ("nli", "ner"), (2, 8), ("full", "lora", "houlsby", "ia3")
        )
    ]
    hole = a_record("poly", status="unsupported", reason="poly needs task ids, which this task does not have")
    notes = {"noise": {"load_1min": 0.5}, "random_weights": True}
    settings = {**SETTINGS, "target": "97%", "learning_rates": [0.001]}
    looked_at = "train_step[lora-nli-bs8]"
    steps = [on_gpu(one) if one.id == looked_at else one for one in steps]
    return Run(FINGERPRINT, settings, (*steps, hole, *trainings(), *deployments(), *merges()), notes)


def diff_case(id_: str, verdict: str, change: float, cause: str = "") -> DiffCase:
    time = TimeLine(change=change, low=change - 0.02, high=change + 0.02, p=0.001, verdict=verdict)
    counters = (MovedLine("flops", 1e6, 1.2e6),) if verdict == "regressed" else ()
    return DiffCase(id_, verdict, cause=cause, time=time, base_s=0.0124, new_s=0.0124 * (1 + change), counters=counters)


def comparison() -> Diff:
    """Return a comparison in which two cases regressed, the second one by more."""
    cause = "30.0 % slower [+28.0 .. +32.0 %] (12.40 -> 16.12 ms), 20.0 % more FLOPs (1000000 -> 1200000)"
    return Diff(
        schema="peftbench/comparison/1",
        headline="Failed: 2 of 5 cases regressed (train_step[ia3-nli-bs8], train_step[lora-nli-bs8]).",
        failed=True,
        counts={"regressed": 2, "inconclusive": 1, "improved": 1, "unchanged": 1},
        detectable=0.03,
        notes=("energy was not compared: there is no GPU",),
        suite=(SuiteLine("common shift", "unchanged", 0.001),),
        cases=(
            diff_case("train_step[ia3-nli-bs8]", "regressed", 0.1, "10.0 % slower [+8.0 .. +12.0 %]"),
            diff_case("inference[lora-nli-bs8]", "improved", -0.2, "20.0 % faster [-22.0 .. -18.0 %]"),
            diff_case("train_step[lora-nli-bs8]", "regressed", 0.3, cause),
            diff_case("train_step[full-nli-bs8]", "unchanged", 0.001),
            diff_case("inference[full-nli-bs8]", "inconclusive", 0.02, "its time is in doubt (+2.0 %)"),
        ),
    )


def history() -> History:
    """Return a history of three states. The case becomes slower at the second, and faster at the third."""

    def compared(verdict: str, change: float) -> dict[str, Any]:
        time = {"verdict": verdict, "change": change, "low": change - 0.01, "high": change + 0.01, "p": 0.001}
        case = {"id": "train_step[lora-nli-bs8]", "verdict": verdict, "cause": f"it is {verdict}", "time": time}
        return {"schema": "peftbench/comparison/1", "headline": "", "cases": [case]}

    stages = tuple(Stage(f"peft==0.{number}", f"id{number}") for number in (19, 20, 21))
    steps = (Step("id19", "id20", compared("regressed", 0.2)), Step("id20", "id21", compared("improved", -0.15)))
    assert read_diff(compared("regressed", 0.2), "").cases[0].verdict == "regressed"
    return History(("benches/",), stages, steps)


def everything() -> Sources:
    """Return a file of every kind but baselines."""
    return Sources(
        runs=(NamedFile("run.json", small_run()),),
        comparisons=(NamedFile("diff.json", comparison()),),
        histories=(NamedFile("history.json", history()),),
    )
