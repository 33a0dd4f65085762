from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.records import FINGERPRINT, SETTINGS, a_record

from peftbench.records.record import Launch, Metric, Record, Run
from peftbench.report.numbers import megabytes, milliseconds, scaled, significant
from peftbench.report.terminal import holes, render


def record(method: str, time_s: float, ratio: float) -> Record:
    timed = {
        name: Metric(value, "s", noise="timed", low=value * 0.95, high=value * 1.05)
        for name, value in {
            "time_s": time_s,
            "forward_s": time_s / 2,
            "backward_s": time_s / 4,
            "optimizer_s": time_s / 4,
        }.items()
    }
    return a_record(
        method,
        metrics={
            **timed,
            "ratio": Metric(ratio, "1", noise="timed"),
            "tokens_per_s": Metric(200 / time_s, "token/s", better="higher"),
            "peak_bytes": Metric(time_s * 1e9, "B"),
            "trainable_body": Metric(294_912, "1"),
            "trainable_head": Metric(1_538, "1"),
        },
        passes_s={"rounds": 0.6, "validity": 0.1},
    )


FULL, LORA = record("full", 0.0124, 2.0), record("lora", 0.0092, 1.5)
HOLE = a_record("poly", status="unsupported", reason="needs task ids, which this task does not have")
RUN = Run(
    fingerprint=FINGERPRINT,
    settings=SETTINGS,
    records=(FULL, LORA, HOLE),
    notes={
        "duration_s": 2.0,
        "passes_s": {"rounds": 1.2, "validity": 0.2, "counters": 0.1},
        "resident_bytes": [500_000_000, 501_000_000],
        "random_weights": True,
        "noise": {"load_1min": 0.5, "cpu_pressure_percent": 1.25},
    },
)


def row(text: str, method: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(method))


def test_rows_are_compared_with_full_by_the_quotient_of_ratios() -> None:
    text = render(RUN, width=160)
    expected = "lora 9.20 [8.74, 9.66] 1.50 0.75 4.60/2.30/2.30 21.7k 9.20 0.74 295k+1.54k ok"
    assert " ".join(row(text, "lora").split()) == expected
    assert row(text, "full").split()[4:6] == ["2.00", "1.00"]


def test_the_head_says_where_the_numbers_come_from() -> None:
    text = render(RUN, width=160)
    assert "A Processor, 1 thread(s); load 0.50, CPU pressure 1.2 %" in text
    assert "tiny (random weights: times do not depend on them), float32, data synthetic" in text
    assert "train_step  nli, batch size 8, 32 tokens" in text
    assert "3 cases in 2.0 s (0.67 s a case); of this in timed rounds 60 %, validity 10 %" in text
    assert "after the first case 500 MB, after the last 501 MB" in text


def test_two_states_in_lock_step_have_no_step_that_times_are_against() -> None:
    assert "x base: time against the base step" in render(RUN, width=160)
    metrics = {name: metric for name, metric in LORA.metrics.items() if name != "ratio"}
    lockstep = replace(
        RUN, settings={**SETTINGS, "reference": "main"}, records=(replace(LORA, metrics=metrics),), notes={}
    )
    text = render(lockstep, width=160)
    assert "main" not in text
    assert "1 thread(s)\n" in text


@pytest.mark.parametrize(
    ("launches", "ranges"),
    [((5,), True), ((6,), False), ((40, 40, 40), True), ((3,) * 6, False), ((1,), False), ((), False)],
)
def test_a_range_is_not_called_an_interval(launches: tuple[int, ...], *, ranges: bool) -> None:
    taken = tuple(Launch("s", rounds=rounds, time_s=0.01) for rounds in launches)
    text = render(replace(RUN, records=(replace(LORA, launches=taken),)), width=160)
    assert ("their range, not a 95 % interval" in text) == ranges


def test_a_case_whose_gpu_waits_for_the_host_is_called_host_bound() -> None:
    def busy(found: Record, share: float | None) -> Record:
        return replace(found, metrics={**found.metrics, "busy_share": Metric(share, "1", reason="why")})

    text = render(replace(RUN, records=(busy(FULL, 0.8), busy(LORA, 0.794), HOLE)), width=180)
    assert row(text, "full").endswith(" ok")
    assert row(text, "lora").endswith("ok, host-bound")
    assert [row(text, name).split()[7] for name in ("full", "lora")] == ["80%", "79%"]
    assert "host-bound: 1 case of 2. The GPU was busy for less than 80% of a round" in text
    assert "host-bound" not in render(replace(RUN, records=(busy(FULL, None), LORA)), width=180)
    assert "GPU busy" not in render(RUN, width=180)


def test_a_case_that_waited_for_a_core_is_named() -> None:
    told = "shared CPU: rounds waited for a core"
    text = render(replace(RUN, records=(replace(FULL, warnings=(told,)), LORA)), width=180)
    assert row(text, "full").endswith("ok, shared CPU")
    assert "shared CPU: 1 case of 2: rounds waited for a core" in text.splitlines()


def test_a_case_beside_others_on_its_gpu_is_named_and_the_summary_says_who() -> None:
    told = "shared GPU: 2 other compute process(es) ran on it"
    text = render(replace(RUN, records=(replace(FULL, warnings=(told, "else")), LORA, HOLE)), width=180)
    assert row(text, "full").endswith("ok, shared GPU")
    assert row(text, "lora").endswith(" ok")
    assert "shared GPU: 1 case of 3: 2 other compute process(es) ran on it" in text.splitlines()


def test_a_hole_has_its_reason() -> None:
    text = render(RUN, width=160)
    assert row(text, "poly").split() == ["poly", "unsupported"]
    assert "  poly: unsupported: needs task ids, which this task does not have" in text


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    assert max(map(len, render(RUN, width=width).splitlines())) <= width


def test_a_narrow_terminal_keeps_time_and_comparison() -> None:
    text = render(RUN, width=80)
    assert "9.20 [8.74, 9.66]" in text
    assert "x full" in text
    assert "token/s" not in text
    assert "token/s" in render(RUN, width=160)


def test_without_full_nothing_is_compared_with_it() -> None:
    text = render(replace(RUN, records=(LORA,)), width=160)
    assert row(text, "lora").split()[4] == "1.50"
    assert "0.74" not in text


def test_blocks_are_kept_apart_by_workload_task_and_batch_size() -> None:
    others = [replace(FULL, workload="inference"), replace(FULL, batch_size=1), replace(FULL, task="ner")]
    text = render(replace(RUN, records=(FULL, *others)), width=160)
    assert text.count("batch size") == 4


@pytest.mark.parametrize(
    ("ids", "functions"),
    [
        # Every lambda given to `measure()` is called alike.
        (("test_one[{}-nli-bs8]", "test_two[{}-nli-bs8]"), ("test_one", "test_two")),
        # What a test varies itself.
        (("hidden[{}-nli-bs8-1]", "hidden[{}-nli-bs8-2]"), ("hidden[1]", "hidden[2]")),
    ],
)
def test_functions_that_share_a_workloads_name_are_compared_each_with_its_own_full(
    ids: Sequence[str], functions: Sequence[str]
) -> None:
    found = [
        replace(one, id=text.format(one.method), workload="<lambda>", metrics=metrics)
        for text, ratio in zip(ids, (1.0, 4.0), strict=True)
        for one, metrics in (
            (FULL, {"ratio": Metric(ratio, "1", noise="timed")}),
            (LORA, {"ratio": Metric(ratio / 2, "1", noise="timed")}),
        )
    ]
    text = render(replace(RUN, records=tuple(found)), width=160)
    for function in functions:
        assert f"<lambda> ({function})  nli, batch size 8" in text
    assert [line.split()[1:3] for line in text.splitlines() if line.startswith("lora")] == [
        ["0.50", "0.50"],
        ["2.00", "0.50"],
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.0, "1.00"),
        (12.345, "12.3"),
        (0.0012345, "0.00123"),
        (1234.5, "1230"),
        (99.96, "100"),
        (9.996, "10.0"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3, "3"), (999, "999"), (1000, "1.00k"), (294_912, "295k"), (999_999, "1.00M"), (1_789_056, "1.79M")],
)
def test_counts_have_decimal_prefixes(value: float, text: str) -> None:
    assert scaled(value) == text


def test_units_of_the_table() -> None:
    assert milliseconds(0.0124) == "12.4"
    assert megabytes(1_500_000) == "1.50"


def generated(method: str, ratio: float, **variant: object) -> Record:
    state = f"-adapter{variant['adapter']}" if "adapter" in variant else ""
    return replace(
        record(method, 0.01 * ratio, ratio),
        id=f"decode[{method}-sft-bs8-cache{variant['cache']}{state}]",
        workload="decode",
        task="sft",
        seq_len=int(str(variant["cache"])),
        variant=variant,
    )


def test_states_of_an_adapter_share_a_block_and_lengths_have_their_own() -> None:
    merged = replace(generated("lora", 1.0, cache=64, adapter="merged"), status="unsupported", reason="not now")
    records = (
        generated("full", 1.0, cache=64),
        generated("lora", 1.5, cache=64),
        merged,
        generated("lora", 1.2, cache=64, adapter="disabled"),
        generated("lora", 1.7, cache=128),
    )
    text = render(replace(RUN, records=records), width=150)
    first, second = text[text.index("decode  sft") :].split("decode  sft, batch size 8, cache of 128 tokens")
    assert first.startswith("decode  sft, batch size 8, cache of 64 tokens\n")
    rows = [line.split("  ")[0] for line in first.splitlines() if line.startswith(("full", "lora"))]
    assert rows == ["full", "lora", "lora merged", "lora disabled"]
    assert "1.50" in next(line for line in first.splitlines() if line.startswith("lora  "))
    assert "  lora merged: unsupported: not now" in first
    assert second.count("lora") == 1


def test_a_reason_of_several_variants_is_one_line() -> None:
    failed = replace(generated("lora", 1.0, cache=1), status="unsupported", reason="not now")
    cases = [replace(failed, variant={"seed": seed, "by": way}) for seed in range(2) for way in ("cat", "svd")]
    assert holes(cases) == ["  lora, 4 variants: unsupported: not now"]
    other = [replace(one, reason=f"not {one.variant['by']}") for one in cases[:2]]
    assert holes(other) == ["  lora seed 0 by cat: unsupported: not cat", "  lora seed 0 by svd: unsupported: not svd"]
