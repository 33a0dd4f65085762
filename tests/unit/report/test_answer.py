from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.cells import cell_len
from tests.records import FINGERPRINT, SETTINGS, a_record
from tests.unit.report.test_studies import training

from peftbench.claims.standing import standings
from peftbench.records.record import Launch, Metric, Record, Run, Status
from peftbench.report import facts
from peftbench.report.answer import Answer

FULL = "full fine-tuning"
FASTER = f"faster than {FULL}, m0 most (0.500 [0.490, 0.510] of its time)"
MARKS = "* best, ! worst; methods that cannot be told apart share a mark"


def case(
    method: str,
    ratio: float,
    *,
    workload: str = "train_step",
    task: str = "nli",
    size: int = 8,
    width: float = 0.01,
    status: Status = "ok",
    **metrics: float,
) -> Record:
    """A record whose ratio to the base step has an interval of +- `width`."""
    metric = Metric(ratio, "1", noise="timed", low=ratio * (1 - width), high=ratio * (1 + width))
    return a_record(
        method,
        workload=workload,
        task=task,
        batch_size=size,
        status=status,
        reason="" if status == "ok" else f"why {method} failed",
        metrics={} if status != "ok" else {"ratio": metric, **{key: Metric(one, "1") for key, one in metrics.items()}},
        launches=(Launch("s", 10, 0.01, 0.01, math.log(ratio)),),
    )


def answer(*records: Record, **notes: object) -> Answer:
    return Answer(Run(fingerprint=FINGERPRINT, settings=SETTINGS, records=records, notes=notes))


def cells(text: str, method: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(method))


MERGED = replace(
    case("lora", 1.0, workload="merging", task="nli+ner"),
    metrics={"quality": Metric(0.9, "1"), "checkpoint_bytes": Metric(9.0, "B")},
    variant={"seed": 0, "by": "own"},
)
GROUPS: Sequence[tuple[str, int]] = (("nli", 1), ("nli", 8), ("ner", 1))
"""Full costs 2, 4 and 8 base steps in these."""


def matrix() -> list[Record]:
    """LoRA trains at 0.5, 0.5 and 2 times full's time, whose geometric mean is 0.794; IA3 at 1.2 everywhere."""
    records = []
    for n, (task, size) in enumerate(GROUPS):
        full = 2.0 ** (n + 1)
        records += [
            case(
                "full",
                full,
                task=task,
                size=size,
                peak_bytes=1e6 * full,
                trainable_body=1000,
                checkpoint_bytes=4e6,
            ),
            case("lora", full * (0.5, 0.5, 2)[n], task=task, size=size, peak_bytes=1e6, trainable_body=20),
            case("ia3", full * 1.2, task=task, size=size, peak_bytes=3e6 * full, trainable_body=10),
            case("full", 1.0, workload="inference", task=task, size=size),
            case("lora", 1.1 + n / 10, workload="inference", task=task, size=size),
            case("ia3", 1.001, workload="inference", task=task, size=size),
        ]
    return records


def test_a_row_is_a_method_over_all_groups() -> None:
    text = answer(*matrix()).render(width=120)
    assert text.splitlines()[:2] == [
        f"3 groups (task and batch size): cost against {FULL}, 1.00; geometric means, and ranges over the groups",
        f"{MARKS}; [ ] 95 % interval over the rounds of one launch",
    ]
    inferred = (1.1 * 1.2 * 1.3) ** (1 / 3)
    memory = (1 / 2 * 1 / 4 * 1 / 8) ** (1 / 3)
    assert cells(text, "lora") == [
        "lora", "0.79*", "0.50-2.00", f"{inferred:.2f}!", "1.10-1.30", f"{memory:.2f}*", "2.0"
    ]  # fmt: skip
    assert cells(text, "full") == ["full", "1.00", "1.00*", "1.00", "100!", "4.00"]
    assert cells(text, "ia3") == ["ia3", "1.20!", "1.20-1.20", "1.00*", "1.00-1.00", "3.00!", "1.0*"]


def test_the_range_of_few_rounds_is_not_called_an_interval() -> None:
    few = [replace(one, launches=(Launch("s", 5, 0.01, 0.01, 0.0),)) for one in matrix()]
    assert answer(*few).legend[1].endswith("95 % interval over the rounds of one launch, of fewer than six their range")


def test_an_end_that_is_not_known_is_null_for_programs() -> None:
    def launched(method: str, x: float) -> Record:
        return replace(case(method, math.exp(x)), launches=(Launch("s", 9, 0.1, 0.1, x),) * 2)

    _, lora = answer(launched("full", 0.0), launched("lora", 0.1)).to_json()["methods"]
    assert (lora["training"]["low"], lora["training"]["high"]) == (None, None)  # equal launches tell no spread


def test_a_method_that_lacks_cases_is_shown_and_not_compared() -> None:
    records = [one for one in matrix() if not (one.method == "lora" and one.task == "ner")]
    records += [case("lora", 1, task="ner", size=1, status="failed")]
    full = answer(*records)
    text = full.render(width=120, folded=True)
    row = cells(text, "lora")
    assert row[1] == "0.50"  # would be best
    assert row[-3:] == ["4", "of", "5"]
    assert "  lora: failed: why lora failed\n" in text
    assert not any("lora" in sentence for sentence in full.sentences)


def test_without_full_times_are_against_the_base_step_and_it_is_said() -> None:
    found = answer(*(one for one in matrix() if one.method != "full"))
    text = found.render(width=120)
    assert "cost against the base step" in text
    assert cells(text, "lora")[1] == f"{(1 * 2 * 16) ** (1 / 3):.2f}*"
    assert found.sentences == [facts.WITHOUT_FULL]
    assert "memory" not in text


@pytest.mark.parametrize(
    ("records", "line"),
    [
        ([case("lora", 1.0)], "One method was measured (lora), so nothing is compared: with full in"),
        ([case("full", 1.0)], "One method was measured (full), so nothing is compared.\n"),
        ([MERGED], "One method was measured (lora), so nothing is compared.\n"),  # a study that full is not part of
        ([case("full", 1.0), case("lora", 1, status="failed")], "One method has numbers (full), so nothing is"),
        ([case("lora", 1, status="invalid")], "No case has numbers: 1 case, none of them ok."),
    ],
)
def test_what_compares_nothing_says_so_in_a_line(records: list[Record], line: str) -> None:
    found = answer(*records)
    assert not found.compares
    assert found.sentences == []
    assert found.render(width=200).startswith(line)


def test_trainings_that_missed_the_target_have_no_number_of_those_that_reached_it() -> None:
    run = Answer(
        Run(
            fingerprint=FINGERPRINT,
            settings={**SETTINGS, "target": "90%"},
            records=(training("full", 0, (0.5, 0.9)), training("lora", 0, (0.5, 0.6)), training("ia3", 0, (0.9, 0.9))),
        )
    )
    text = run.render(width=120)
    assert cells(text, "ia3")[-1] == "0.500"
    assert cells(text, "lora")[-3:] == [">", "1.00", "missed"]
    assert "  lora: to target: > 1.00, never reached it: quality 0.60 of 0.81\n" in text
    assert run.sentences[0] == (
        "To the target quality: ia3 is cheapest, 0.500 of full fine-tuning's seconds; lora missed it."
    )


def test_a_gpu_has_busy_share_and_energy() -> None:
    shares = {"full": 0.9, "lora": 0.5, "ia3": 0.7}
    found = answer(*(case(method, 1, busy_share=busy, energy_j=10 * busy) for method, busy in shares.items()))
    text = found.render(width=120)
    assert text.splitlines()[3].split() == ["method", "training", "busy", "%", "energy"]
    assert cells(text, "lora")[2:] == ["50!", "0.56*"]
    assert cells(text, "full")[2:] == ["90*", "1.00!"]
    assert "Device: it is idle most with lora, busy for 50 % of the time." in found.sentences


def test_methods_of_equal_memory_have_no_least_and_no_most() -> None:
    held = {"full": 4e6, "lora": 1e6, "dora": 1e6}
    found = answer(*(case(method, 1, peak_bytes=peak) for method, peak in held.items()))
    assert "Memory: all 2 methods take 0.250 of full fine-tuning's peak bytes (exact)." in found.sentences


def test_sentences_are_facts_with_numbers_and_at_most_five() -> None:
    found = answer(*matrix(), random_weights=True)
    training, inference, memory, weights, shape = found.sentences
    faster = f"1 of 2 methods is faster than {FULL}, lora most (0.794 [0.778, 0.810] of its time)"
    assert training == f"Training: {faster}; slower is ia3 (1.20 [1.18, 1.22])."
    slower = f"1 of 2 methods is slower than {FULL}, lora most (1.20 [1.17, 1.22] of its time)"
    assert inference == f"Inference: {slower}; 1 cannot be told apart from it."
    least = "lora least (0.250 of its peak bytes, exact), ia3 most (3.00)"
    assert memory == f"Memory: 1 of 2 methods needs less than {FULL}, {least}."
    fewest = f"ia3 trains the fewest, 1.0 % of {FULL}'s, and takes 1.20 [1.18, 1.22] of its training time"
    assert weights == f"Trained weights: {fewest}."
    assert shape == facts.SHAPE
    real = answer(*matrix())
    assert real.sentences[-1] == (
        "Batch size: lora changes most, from 1.00 [0.980, 1.02] of full fine-tuning's training time at 1 to 0.500 "
        "[0.490, 0.510] at 8."
    )
    gpu = Run({}, {**SETTINGS, "device": "cuda"}, tuple(matrix()), {"random_weights": True})
    assert facts.SHAPE not in Answer(gpu).sentences


@pytest.mark.parametrize(
    ("factors", "sentence"),
    [
        ((0.5,), "takes 0.500 [0.490, 0.510] of full fine-tuning's time."),
        ((1.01,), "takes 1.01 [0.990, 1.03] of full fine-tuning's time, and cannot be told apart from it."),
        ((1.0, 1.01), "none of 2 methods can be told apart from full fine-tuning."),
        ((0.5, 0.6), f"2 of 2 methods are {FASTER}; none is slower."),
        ((0.5, 1.0), f"1 of 2 methods is {FASTER}; 1 cannot be told apart from it."),
        ((0.5, 2.0), f"1 of 2 methods is {FASTER}; slower is m1 (2.00 [1.96, 2.04])."),
        ((0.5, 2.0, 3.0), f"1 of 3 methods is {FASTER}; slower are m2 (3.00 [2.94, 3.06]) and m1 (2.00 [1.96, 2.04])."),
        ((0.5, 2.0, 3.0, 4.0), f"1 of 4 methods is {FASTER}; 3 are slower, m3 most (4.00 [3.92, 4.08])."),
        ((2.0, 3.0), f"2 of 2 methods are slower than {FULL}, m1 most (3.00 [2.94, 3.06] of its time)."),
    ],
)  # fmt: skip
def test_times_are_told_by_where_their_intervals_lie(factors: tuple[float, ...], sentence: str) -> None:
    others = [case(f"m{n}", factor) for n, factor in enumerate(factors)]
    found = facts.times(standings([case("full", 1.0), *others]), "training")
    assert found == f"Training: {'m0 ' if len(factors) == 1 else ''}{sentence}"


def test_further_workloads_and_functions_have_columns_of_their_own() -> None:
    mine = replace(case("lora", 3.0), id="test_mine[lora-nli-bs8]")
    full = replace(case("full", 2.0), id="test_mine[full-nli-bs8]")
    merged = case("lora", 1.5, workload="merged_inference")
    text = answer(*matrix(), mine, full, merged).render(width=200)
    assert {"test_mine", "merged_inference"} <= set(re.split(r"\s+", text))
    assert "1.50" in cells(text, "lora")  # 3 / 2, and merged: 1.5 over full's plain inference of 1


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    text = answer(*matrix(), random_weights=True).render(width=width, folded=True)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "training" in text


def test_a_part_of_the_cases_says_so_and_json_has_all_numbers() -> None:
    found = answer(*matrix(), shard={"part": 1, "parts": 4, "cases": 9, "planned": []})
    assert "part 1 of 4 of the cases; `peftbench merge` joins the parts" in found.render(width=120)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["against"] == "full"
    lora = next(one for one in data["methods"] if one["method"] == "lora")
    assert lora["training"]["blocks"] == 3
    assert [lora["training"][name] for name in ("least", "most")] == [0.5, 2]
    assert data["sentences"] == found.sentences
