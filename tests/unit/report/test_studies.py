from __future__ import annotations

import re

from tests.records import FINGERPRINT, SETTINGS, a_record

from peftbench.records.record import CurvePoint, LoadPoint, Metric, Record, Run
from peftbench.report import terminal


def training(method: str, seed: int, qualities: tuple[float, ...], *, lr: float = 3e-5) -> Record:
    points = [
        CurvePoint(step=10 * n, examples=80 * n, time_s=2.0 * n + seed / 10, quality=quality, flops=1e9 * n)
        for n, quality in enumerate(qualities, start=1)
    ]
    return a_record(
        method,
        workload="convergence",
        metrics={"peak_bytes": Metric(3e8, "B")},
        variant={"seed": seed, "lr": lr},
        curve=tuple(points),
    )


def rendered(*records: Record, width: int = 160) -> str:
    run = Run(fingerprint=FINGERPRINT, settings={**SETTINGS, "target": "90%"}, records=records)
    return terminal.render(run, width=width)


def cells(text: str, *starts: str) -> list[str]:
    pattern = r"\s+".join(map(re.escape, starts))
    return next(re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if re.match(pattern, line))


def test_trainings_are_a_row_a_method_and_rate_with_intervals_over_seeds() -> None:
    full = [training("full", seed, (0.5, 0.9)) for seed in range(3)]
    lora = [training("lora", seed, (0.5, 0.6, 0.7, 0.9)) for seed in range(3)]
    tried = training("lora", 0, (0.5, 0.6), lr=1e-3)
    text = rendered(*full, *lora, tried)
    assert "convergence  nli-bs8, target 0.810" in text
    assert cells(text, "full")[1:6] == ["3e-05", "3", "0.900", "4.10 [3.85, 4.35]", "1.00"]
    row = cells(text, "lora", "3e-05")
    assert row[4] == "8.10 [7.85, 8.35]"
    assert row[5].startswith("1.98 [")
    assert "4.00G" in row
    assert "300" in row
    assert cells(text, "lora", "0.001")[2] == "1"
    assert "> 4.00" in cells(text, "lora", "0.001")
    assert "  lora: best learning rate with the first seed: 3e-05\n" in text
    assert "  lora at 0.001: target not reached in 1 of 1 (cost: at least so much)\n" in text
    assert " J " not in text
    narrow = rendered(*full, *lora, tried, width=80)
    assert "x full" in narrow
    assert max(map(len, narrow.splitlines())) <= 80


def test_the_interval_of_an_accuracy_is_one_of_accuracies() -> None:
    qualities = {0: 0.2, 1: 0.5, 2: 0.7}
    full = [training("full", seed, (0.1, quality)) for seed, quality in qualities.items()]
    assert cells(rendered(*full), "full")[3] == "0.467 [0.000, 1.000]"


def test_a_cost_that_is_open_on_both_sides_has_no_sign_of_one() -> None:
    full = [training("full", 0, (0.5, 0.9)), training("full", 1, (0.5, 0.6))]  # seed 1 never reaches the target
    lora = [training("lora", 0, (0.5, 0.6)), training("lora", 1, (0.5, 0.9))]  # seed 0 does not
    assert any(cell.startswith("? ") for cell in cells(rendered(*full, *lora), "lora"))


def test_ways_to_serve_are_a_row_each_and_nothing_is_too_wide() -> None:
    record = a_record(
        workload="deployment",
        batch_size=1,
        metrics={
            "uniform_p50_s": Metric(0.0123, "s"),
            "bytes_per_task": Metric(1.5e6, "B"),
            "switch_s": Metric(None, "s", reason="too few tasks"),
        },
        variant={"by": "switch", "n": 4},
    )
    text = rendered(record, width=80)
    assert cells(text, "lora", "switch", "4") == ["lora", "switch", "4", "12.3"]
    assert "1.50" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_load_is_a_row_and_what_was_left_unanswered_is_no_number() -> None:
    record = a_record(
        workload="deployment",
        metrics={"uniform_p50_s": Metric(0.0123, "s"), "starvation_per_s": Metric(125.0, "request/s")},
        variant={"by": "grouped", "n": 4},
        loads=(
            LoadPoint(50.0, 50.4, 200, 3, 1.5, longest_s=0.05, p50_s=0.021, p95_s=0.03, p99_s=0.05),
            LoadPoint(125.0, 101.0, 200, 41, 7.96, longest_s=0.7, p50_s=0.31),
        ),
    )
    text = rendered(record)
    assert "deployment  nli-bs8: offered loads (!: less than 90 % answered)" in text
    start = ["lora", "grouped", "4"]
    assert cells(text, *start, "12.3") == [*start, "12.3", "125"]
    kept_up, starved = ["21.0", "30.0", "50.0", "3 of 200", "1.5"], ["310", "> 700", "> 700", "41 of 200", "8.0"]
    assert cells(text, *start, "50.0") == [*start, "50.0", "50.4", *kept_up]
    assert cells(text, *start, "125") == [*start, "125", "101!", *starved]


def test_a_way_to_merge_is_a_row_over_seeds() -> None:
    def merged(way: str, seed: int, left: float, merge_s: float | None) -> Record:
        return a_record(
            workload="merging",
            task="nli+ner",
            metrics={
                "quality_ratio": Metric(left, "1"),
                "worst_quality_ratio": Metric(left / 2, "1"),
                "quality": Metric(0.7, "1"),
                "stored_bytes": Metric(2.5e6, "B"),
                "bytes_ratio": Metric(0.5, "1"),
                "merge_s": Metric(merge_s, "s"),
            },
            variant={"seed": seed, "by": way},
        )

    own = [merged("own", seed, 1.0, None) for seed in range(2)]
    text = rendered(*own, *(merged("svd", seed, 0.8 + seed / 100, 0.3 + seed) for seed in range(3)))
    assert "merging  nli+ner-bs8" in text
    assert cells(text, "lora", "own") == ["lora", "own", "2", "1.00", "0.500", "0.50", "2.50", "0.700"]
    row = ["3", "0.810 [0.785, 0.835]", "0.405", "0.50", "2.50", "1300", "0.700"]
    assert cells(text, "lora", "svd") == ["lora", "svd", *row]
    assert "heads without adapters keep" not in text
    text = rendered(*own, merged("heads", 0, 0.97, None))
    assert "lora: heads without adapters keep 0.97 of the quality, so the adapters learned little" in text
