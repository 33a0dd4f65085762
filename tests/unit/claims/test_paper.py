from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from tests.records import a_record

from peftbench.claims.findings import Finding
from peftbench.claims.paper import CLAIMS, judge
from peftbench.config.target import QualityTarget
from peftbench.errors import UserError
from peftbench.records.record import Metric, Record, Run
from peftbench.report import claims as report

Make = Callable[..., Record]
MakeRun = Callable[..., Run]
TARGET = QualityTarget.read("90%")
NEVER = (0.3, 0.4, 0.5, 0.6)


def finding(name: str, run: Run, policy: str | None = None, target: QualityTarget = TARGET) -> Finding:
    found = [one for one in judge([run], target) if one.claim.name == name]
    return next(one for one in found if policy is None or one.policy == policy)


def both(training: Make, adapter_step_s: Sequence[float], qualities: Sequence[float] = (0.5, 0.9)) -> list[Record]:
    """Full fine-tuning at one second a step, and an adapter, with as many seeds as given."""
    seeds = list(enumerate(adapter_step_s))
    full = [training("full", seed=seed, step_s=1 + seed / 1000) for seed, _ in seeds]
    return full + [training("lora", qualities, seed=seed, step_s=step_s) for seed, step_s in seeds]


@pytest.mark.parametrize(
    ("adapter_step_s", "verdict", "ratio"),
    [
        ((1.5, 1.51, 1.52), "holds", 1.51),
        ((0.8, 0.81, 0.82), "does not hold", 0.81),
        ((1.0, 2.0, 0.7), "not shown", 1.12),  # noise
        ((1.5,), "not shown", 1.5),  # one seed
        ((1.03, 1.031, 1.032), "does not hold", 1.03),  # more, but by less than the margin
    ],
)
def test_a_claim_holds_where_the_whole_interval_is_beyond_its_bound(
    training: Make, run_of: MakeRun, adapter_step_s: Sequence[float], verdict: str, ratio: float
) -> None:
    found = finding("training-time", run_of(*both(training, adapter_step_s)))
    assert found.verdict == verdict
    assert found.found is not None
    assert found.found.value == pytest.approx(ratio, rel=0.01)
    assert [case.case for case in found.cases] == ["lora nli-bs8"]


def test_an_adapter_that_never_reaches_the_target_speaks_for_its_cost_and_never_against(
    training: Make, run_of: MakeRun
) -> None:
    dear = finding("training-time", run_of(*both(training, (1.0, 1.01, 1.02), NEVER)))
    assert dear.verdict == "holds"  # at least 40 s against 20 s
    assert dear.found is not None
    assert dear.found.high == math.inf
    assert dear.cases[0].censored == 3
    cheap = finding("training-time", run_of(*both(training, (0.1, 0.101, 0.102), NEVER)))
    assert cheap.verdict == "not shown"  # 4 s were spent in vain: what it costs is not known


def test_where_neither_reaches_the_target_nothing_is_said(training: Make, run_of: MakeRun) -> None:
    records = both(training, (1.0, 1.1, 1.2), NEVER)
    found = finding("training-time", run_of(*records), target=QualityTarget.read("0.95"))
    assert (found.verdict, found.found) == ("not shown", None)


def test_no_data_is_not_shown_for_every_claim(run_of: MakeRun) -> None:
    findings = judge([run_of()], TARGET)
    assert [one.claim for one in findings] == list(CLAIMS)
    assert {one.verdict for one in findings} == {"not shown"}


def test_flops_are_judged_apart_from_time_and_joules_that_were_not_measured_are_not(
    training: Make, run_of: MakeRun
) -> None:
    run = run_of(*both(training, (1.5, 1.51, 1.52), (0.5, 0.6, 0.9)))
    flops = finding("training-flops", run)
    assert flops.found is not None
    assert flops.found.value == pytest.approx(1.5)  # three evaluations instead of two, at the same cost
    assert finding("training-energy", run).found is None


def test_rates_are_chosen_as_one_for_all_or_as_the_best_of_the_first_seed(training: Make, run_of: MakeRun) -> None:
    records = both(training, (1.0, 1.0, 1.0), NEVER)
    records += [training("lora", (0.5, 0.9), seed=seed, lr=1e-3, step_s=0.5 + seed / 1000) for seed in range(3)]
    run = run_of(*records)
    assert finding("training-time", run, "shared").verdict == "holds"
    assert finding("training-time", run, "tuned").verdict == "does not hold"
    assert {one.policy for one in judge([run], TARGET) if one.cases} == {"shared", "tuned"}


def test_one_rate_for_all_is_no_choice(training: Make, run_of: MakeRun) -> None:
    findings = judge([run_of(*both(training, (1.0, 1.1)))], TARGET)
    assert {one.policy for one in findings if one.cases} == {"shared"}


def test_cases_of_one_seed_are_one_unit_and_each_case_has_its_own_verdict(training: Make, run_of: MakeRun) -> None:
    records = both(training, (1.5, 1.51, 1.52))
    records += [training("full", task="ner", seed=seed, step_s=1 + seed / 1000) for seed in range(3)]
    records += [training("lora", task="ner", seed=seed, step_s=0.5 + seed / 1000) for seed in range(3)]
    found = finding("training-time", run_of(*records))
    assert found.speaking("holds") == ["lora nli-bs8"]
    assert found.speaking("does not hold") == ["lora ner-bs8"]
    assert found.found is not None
    assert found.found.value == pytest.approx(math.sqrt(1.51 * 0.5), rel=0.01)


def test_trained_parameters_are_compared_exactly(training: Make, run_of: MakeRun) -> None:
    run = run_of(training("full", trainable_body=1000), training("lora", trainable_body=20))
    found = finding("few-parameters", run)
    assert found.verdict == "holds"
    assert found.found is not None
    assert found.found.low == found.found.high == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("full", "lora", "higher", "slightly"),
    [
        ((1.0, 1.01, 1.0), (1.1, 1.11, 1.11), "holds", "holds"),
        ((1.0, 1.0, 1.01), (0.9, 0.9, 0.91), "does not hold", "holds"),
        ((1.0, 1.01, 1.0), (2.0, 2.1, 2.0), "holds", "does not hold"),
        ((1.0, 1.0, 1.0), (1.0, 1.3, 1.1), "not shown", "not shown"),
    ],
)
def test_latencies_are_compared_launch_by_launch(
    inference: Make,
    run_of: MakeRun,
    full: Sequence[float],
    lora: Sequence[float],
    higher: str,
    slightly: str,
) -> None:
    run = run_of(inference("full", *full), inference("lora", *lora))
    assert finding("latency-higher", run).verdict == higher
    assert finding("latency-slightly", run).verdict == slightly


def test_a_latency_of_the_host_says_so_and_gives_the_verdict_for_the_device_beside_it(
    inference: Make, run_of: MakeRun
) -> None:
    def busy(found: Record, busy_s: float, share: float) -> Record:
        device = {"busy_s": Metric(busy_s, "s", low=busy_s, high=busy_s), "busy_share": Metric(share, "1")}
        return replace(found, metrics={**found.metrics, **device})

    full, lora = inference("full", 1.0, width=0.001), inference("lora", 1.4, width=0.001)
    run = run_of(busy(full, 2e-3, 0.9), busy(lora, 2e-3, 0.1))
    slow = finding("latency-higher", run)
    assert (slow.verdict, slow.host_bound) == ("holds", ("lora nli-bs1",))
    assert slow.device is not None
    assert (slow.device.verdict, slow.device.found.value) == ("does not hold", 1)
    line = "1 of 1 cases are host-bound, so this verdict is about Python and kernel launches"
    assert line in " ".join(report.render([slow], width=200).split())
    assert line in report.markdown([slow])
    written = json.loads(report.to_json([slow], target="90%"))["claims"][0]
    assert (written["host_bound"], written["device"]["verdict"]) == (["lora nli-bs1"], "does not hold")
    quick = finding("latency-higher", run_of(busy(full, 2e-3, 0.9), busy(lora, 2e-3, 0.85)))
    assert (quick.host_bound, quick.device) == ((), None)
    assert finding("latency-higher", run_of(full, lora)).device is None


def test_one_launch_has_the_interval_of_its_rounds(inference: Make, run_of: MakeRun) -> None:
    def verdict(width: float) -> str:
        return finding(
            "latency-higher", run_of(inference("full", 1.0, width=width), inference("ia3", 1.1, width=width))
        ).verdict

    assert verdict(0.01) == "holds"
    assert verdict(0.08) == "not shown"


def test_a_launch_that_only_one_of_the_two_has_is_left_out(inference: Make, run_of: MakeRun) -> None:
    full, lora = inference("full", 1.0, 1.0, 1.0), inference("lora", 1.1, 1.11, 9.0)
    untimed = replace(lora.launches[2], x=None)
    both_ways = (
        (replace(lora, launches=(*lora.launches[:2], untimed)), full),
        (lora, replace(full, launches=(*full.launches[:2], untimed))),
    )
    for records in both_ways:
        (case,) = finding("latency-higher", run_of(*records)).cases
        assert case.observations == 2
        assert case.found.value == pytest.approx(math.sqrt(1.1 * 1.11))


def served(method: str, by: str, n: int, p50_s: float) -> Record:
    p50 = Metric(p50_s, "s", low=0.99 * p50_s, high=1.01 * p50_s)
    return a_record(
        method, workload="deployment", batch_size=1, metrics={"uniform_p50_s": p50}, variant={"by": by, "n": n}
    )


def test_served_adapters_are_compared_with_as_many_full_models(run_of: MakeRun) -> None:
    records = [served("full", "models", n, 0.010) for n in (1, 4)]
    records += [served("lora", "switch", n, 0.012) for n in (1, 4)] + [served("lora", "merged", 4, 0.001)]
    found = finding("latency-higher", run_of(*records))
    assert [case.case for case in found.cases] == ["lora nli-bs1, 1 tasks served", "lora nli-bs1, 4 tasks served"]
    assert found.verdict == "holds"


def multitask(training: Make, *, step_s: float = 0.5, nli: float = 0.9, size: float = 1050.0) -> list[Record]:
    """Two tasks, each by full fine-tuning and by an adapter, and both by one multi-task model; three seeds."""
    records = []
    for seed in range(3):
        for task in ("nli", "ner"):
            records += [
                training("full", task=task, seed=seed, checkpoint_bytes=1000),
                training("lora", task=task, seed=seed, step_s=1 + seed / 1000, checkpoint_bytes=50),
            ]
        scores = {"nli": (0.5, nli), "ner": (0.5, 0.9)}
        records += [
            training(
                "mtl",
                (0.5, 0.9),
                task="nli+ner",
                workload="multitask",
                seed=seed,
                step_s=step_s,
                scores=scores,
                checkpoint_bytes=size,
                quality__nli=nli + seed / 1000,
                quality__ner=0.9 + seed / 2000,
            )
        ]
    return records


def test_a_multi_task_model_is_compared_with_one_adapter_a_task(training: Make, run_of: MakeRun) -> None:
    run = run_of(*multitask(training))
    time = finding("multitask-time", run)
    assert time.verdict == "holds"
    assert time.found is not None
    assert time.found.value == pytest.approx(0.25, rel=0.01)  # 10 s for both, 20 s for each adapter
    assert finding("multitask-quality", run).verdict == "holds"
    kept = finding("maintainability", run)
    assert kept.verdict == "holds"
    assert kept.found is not None
    assert kept.found.value == pytest.approx(1050 / (1000 + 2 * 50), rel=1e-9)


def test_a_multi_task_model_that_misses_the_target_of_one_task_has_no_cost_to_all(
    training: Make, run_of: MakeRun
) -> None:
    run = run_of(*multitask(training, nli=0.7))
    assert finding("multitask-time", run).verdict == "not shown"
    quality = finding("multitask-quality", run)
    assert quality.speaking("does not hold") == ["mtl against lora, nli-bs8"]
    assert quality.speaking("holds") == ["mtl against lora, ner-bs8"]
    assert finding("maintainability", run_of(*multitask(training, size=1200))).verdict == "does not hold"


@pytest.mark.parametrize("method", ["mtl", "full", "lora"])
def test_where_one_of_the_sizes_is_not_known_nothing_is_said_of_maintainability(
    training: Make, run_of: MakeRun, method: str
) -> None:
    records = [replace(record, metrics={}) if record.method == method else record for record in multitask(training)]
    found = finding("maintainability", run_of(*records))
    assert (found.verdict, found.cases) == ("not shown", ())


def test_a_fusion_is_kept_with_the_adapters_that_it_mixes(training: Make, run_of: MakeRun) -> None:
    records = [
        training("adapterfusion", task=task, checkpoint_bytes=170, total_parameters=300, trainable_body=40)
        for task in ("nli", "ner")
    ]
    records += [training("full", task=task, checkpoint_bytes=1000, total_parameters=250) for task in ("nli", "ner")]
    scores = {"nli": (0.5, 0.9), "ner": (0.5, 0.9)}
    records += [training("mtl", task="nli+ner", workload="multitask", scores=scores, checkpoint_bytes=1050)]
    found = finding("maintainability", run_of(*records)).found
    assert found is not None
    assert found.value == pytest.approx(1050 / (1000 + 40 + 2 * 170))


def test_adding_a_task_is_judged_for_each_share_that_is_replayed(training: Make, run_of: MakeRun) -> None:
    records = multitask(training)
    for seed in range(3):
        for replay, forgotten in ((0.0, 0.2), (0.2, 0.001)):
            records.append(
                training(
                    "mtl",
                    (0.85, 0.9 + seed / 1000),
                    task="nli+ner",
                    workload="adding",
                    seed=seed,
                    variant={"replay": replay},
                    forgetting=forgotten + seed / 10_000,
                )
            )
    run = run_of(*records)
    lost = finding("extensibility-forgetting", run)
    assert lost.speaking("holds") == ["mtl of nli given ner, 20% replayed"]
    assert lost.speaking("does not hold") == ["mtl of nli given ner, 0% replayed"]
    assert finding("extensibility-quality", run).verdict == "holds"
    time = finding("extensibility-time", run)
    assert time.verdict == "holds"
    assert time.found is not None
    assert time.found.value == pytest.approx(0.5, rel=0.01)  # at its target after 10 s instead of 20 s


def test_transfer_is_compared_set_by_set(training: Make, run_of: MakeRun) -> None:
    def records(gap: float) -> list[Record]:
        made = []
        for seed in range(3):
            quality = 0.5 + seed / 1000
            made.append(training("full", seed=seed, quality__xx=quality))
            made.append(training("lora", seed=seed, quality__xx=quality + gap + seed / 10_000))
        return made

    assert finding("zero-shot", run_of(*records(-0.05))).verdict == "holds"
    found = finding("zero-shot", run_of(*records(0.05)))
    assert found.verdict == "does not hold"
    assert found.cases[0].case == "lora nli-bs8 on xx"


def test_the_interval_of_a_difference_of_scores_holds_only_differences_that_scores_can_have(
    training: Make, run_of: MakeRun
) -> None:
    gaps = (-0.9, -0.1, 0.8)
    full = [training("full", seed=seed, quality__xx=0.9 if gap < 0 else 0.1) for seed, gap in enumerate(gaps)]
    lora = [training("lora", seed=n, quality__xx=(0.9 if gap < 0 else 0.1) + gap) for n, gap in enumerate(gaps)]
    found = finding("zero-shot", run_of(*full, *lora))
    assert found.found is not None
    assert (found.found.low, found.found.high) == (-1, 1)
    assert (found.cases[0].found.low, found.cases[0].found.high) == (-1, 1)


def test_a_target_that_no_score_can_reach_is_the_users_mistake(training: Make, run_of: MakeRun) -> None:
    with pytest.raises(UserError, match="above what is possible"):
        judge([run_of(*both(training, (1.0, 1.0)))], QualityTarget.read("150%"))


def test_every_claim_is_a_sentence_and_an_inequality() -> None:
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim.says
        assert claim.inequality.endswith(f"{claim.bound:g}")


def test_reports_hold_every_claim_and_case_and_json_is_finite(training: Make, run_of: MakeRun) -> None:
    records = multitask(training) + both(training, (1.0, 1.01, 1.02), NEVER)
    findings = judge([run_of(*{record.id: record for record in records}.values())], TARGET)
    table, text = report.render(findings, width=100, everything=True), report.markdown(findings)
    assert all(len(line) <= 100 for line in table.splitlines())
    data = json.loads(report.to_json(findings, target="90%"), parse_constant=pytest.fail)
    for one, entry in zip(findings, data["claims"], strict=True):
        assert entry["claim"] == one.claim.name
        assert entry["verdict"] == one.verdict
        assert entry["inequality"] in text.replace("&lt;", "<").replace("&gt;", ">")
        for case in one.cases:
            assert case.case in text
            assert case.case in table
    never = next(entry for entry in data["claims"] if entry["claim"] == "training-time")
    assert never["high"] is None
    assert never["cases"][0]["censored"] == 3
    jsonschema.validate(data, {"required": ["schema", "target", "claims"]})


def test_the_documentation_states_every_claim_as_it_is_judged() -> None:
    text = (Path(__file__).parents[3] / "docs" / "paper.md").read_text()
    for claim in CLAIMS:
        assert f"| `{claim.name}` | {claim.says} | {claim.inequality} |" in text
