from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from peftbench.claims.evidence import load_runs
from peftbench.claims.recommend import Choice, Objective, parse_bytes, recommend
from peftbench.cli import main
from peftbench.config.target import QualityTarget
from peftbench.errors import UserError
from peftbench.records.record import Record, Run
from peftbench.records.runfile import save_run
from peftbench.report import recommendation as report

Make = Callable[..., Record]
MakeRun = Callable[..., Run]


@pytest.fixture
def run(training: Make, inference: Make, run_of: MakeRun) -> Run:
    """LoRA is cheap, small, and slow until merged; Houlsby never gets there; full is in between."""
    records = []
    for seed in range(3):
        records += [
            training("full", seed=seed, peak_bytes=8 * 2**30, checkpoint_bytes=1000),
            training("lora", seed=seed, step_s=0.8 + seed / 1000, peak_bytes=4 * 2**30, checkpoint_bytes=10),
            training("houlsby", (0.5, 0.6), seed=seed, step_s=0.5, peak_bytes=5 * 2**30, checkpoint_bytes=40),
        ]
    records += [inference(method, ratio) for method, ratio in (("full", 1.0), ("lora", 1.3), ("houlsby", 1.2))]
    return run_of(inference("lora", 0.99, workload="merged_inference"), *records)


def ranked(run: Run, objective: Objective, memory_bytes: float | None = None) -> list[Choice]:
    return recommend([run], objective, target=QualityTarget.read("90%"), memory_bytes=memory_bytes, tasks=4)


def test_the_cheapest_to_the_target_comes_first_and_who_never_got_there_last(run: Run) -> None:
    choices = ranked(run, "cost-to-quality")
    assert [choice.method for choice in choices] == ["lora", "full", "houlsby"]
    assert choices[0].score == pytest.approx(0.8, rel=0.01)
    assert choices[1].score == 1.0
    assert not choices[2].reached
    assert report.score(choices[2]) == "> 0.500"
    assert choices[2].reason == "never reached it: quality 0.60 of 0.81"


def shown(run: Run) -> list[tuple[str, str, str]]:
    return [(one.method, report.score(one), one.reason) for one in ranked(run, "cost-to-quality")]


def test_who_missed_the_target_stands_below_everyone_who_reached_it_whatever_full_did(
    training: Make, run_of: MakeRun
) -> None:
    """The target is 0.81, 90 % of full's mean of 0.9; with seed 1, full misses it."""
    seeds = {0: (0.5, 1.0), 1: (0.5, 0.8)}
    run = run_of(
        *(training("full", found, seed=seed) for seed, found in seeds.items()),
        *(training("lora", (0.5, 0.9), seed=seed, step_s=2.0) for seed in seeds),  # reaches it, at twice the cost
        *(training("bitfit", (0.5, 0.6), seed=seed, step_s=0.1) for seed in seeds),
        *(training("ia3", (0.5, found[1] - 0.1), seed=seed, step_s=0.1) for seed, found in seeds.items()),
    )
    assert shown(run) == [
        (
            "lora",
            "< 2.00",
            "at most 2.00 times the seconds of steps to the target, against full, which missed it in a training",
        ),
        ("bitfit", "> 0.100", "never reached it: quality 0.60 of 0.81"),
        ("full", "", "missed it in 1 of 2 trainings: quality 0.80 of 0.81"),
        ("ia3", "", "missed it in 1 of 2 trainings: quality 0.70 of 0.81"),
    ]
    text = report.render(ranked(run, "cost-to-quality"), width=200)
    assert [line.split()[0:2] for line in text.splitlines()[1:]] == [
        ["1", "lora"],
        ["2", "bitfit"],
        ["3", "full"],
        ["4", "ia3"],
    ]
    rows = json.loads(report.to_json(ranked(run, "cost-to-quality")))
    assert [(row["score"], row["bound"], row["reached"]) for row in rows][2:] == [(None, "", False)] * 2


def test_what_was_missed_is_told_by_group_and_with_digits_that_tell_it_apart(training: Make, run_of: MakeRun) -> None:
    tasks = ("nli", "ner", "qa")
    full = [training("full", task=task) for task in tasks]
    lora = [training("lora", (0.5, 0.6 + n / 100), task=task) for n, task in enumerate(tasks)]
    close = [training("ia3", (0.5, 0.9 if task != "qa" else 0.8099), task=task) for task in tasks]
    found = {method: reason for method, _, reason in shown(run_of(*full, *lora, *close))}
    assert found["lora"] == "never reached it: quality 0.60 of 0.81 on nli-bs8, 0.61 of 0.81 on ner-bs8 and 1 more"
    assert found["ia3"] == "missed it in 1 of 3 trainings: quality 0.8099 of 0.8100 on qa-bs8"


@pytest.mark.parametrize("objective", ["latency", "storage"])
def test_who_missed_the_target_stands_below_who_reached_it_whatever_is_ranked_by(
    objective: Objective, training: Make, inference: Make, run_of: MakeRun
) -> None:
    """Houlsby is fastest and smallest, and misses the target; IA3 once; prefix was never trained."""
    speeds = {"full": 1.0, "lora": 1.3, "houlsby": 0.5, "ia3": 0.6, "prefix": 0.7}
    sizes = {"full": 1000, "lora": 40, "houlsby": 10, "ia3": 20}
    qualities = {"full": (0.9, 0.9), "lora": (0.9, 0.9), "houlsby": (0.6, 0.6), "ia3": (0.9, 0.7)}
    trained = [
        training(method, (0.5, quality), seed=seed, checkpoint_bytes=sizes[method])
        for method, found in qualities.items()
        for seed, quality in enumerate(found)
    ]
    untrained = training("prefix", workload="train_step", checkpoint_bytes=30)
    run = run_of(*trained, untrained, *(inference(method, ratio) for method, ratio in speeds.items()))
    choices = ranked(run, objective)
    reached = ["full", "lora"] if objective == "latency" else ["lora", "full"]
    assert [one.method for one in choices] == [*reached, "prefix", "houlsby", "ia3"]
    assert [one.reached for one in choices] == [True, True, None, False, False]
    assert choices[2].reason.endswith("; no training says whether it reaches the target")
    assert choices[3].reason.endswith("; never reached the target: quality 0.60 of 0.81")
    assert choices[4].reason.endswith("; missed the target in 1 of 2 trainings: quality 0.70 of 0.81")
    assert choices[3].score is not None
    alone = ranked(run_of(*(one for one in run.records if one.workload != "convergence"), trained[0]), objective)
    assert "never" not in " ".join(one.reason for one in alone)
    costs = [one.score or 0 for one in ranked(run_of(*map(inference, speeds, speeds.values())), "latency")]
    assert costs == sorted(costs)  # no quality is known: the cost alone decides


def test_merging_takes_the_latency_away(run: Run) -> None:
    choices = ranked(run, "latency")
    assert [(choice.method, round(choice.score or 0, 2)) for choice in choices] == [
        ("lora", 0.99),
        ("full", 1.0),
        ("houlsby", 1.2),
    ]
    assert "once merged" in choices[0].reason


def test_merging_counts_where_it_is_faster_or_all_there_is(inference: Make, run_of: MakeRun) -> None:
    records = [inference("full", 1.0), inference("lora", 1.1)]
    records += [inference(method, 1.2, workload="merged_inference") for method in ("lora", "houlsby")]
    choices = {choice.method: choice for choice in ranked(run_of(*records), "latency")}
    assert {method: round(choice.score or 0, 2) for method, choice in choices.items()} == {
        "full": 1.0,
        "lora": 1.1,
        "houlsby": 1.2,
    }
    assert "once merged" not in choices["lora"].reason
    assert "once merged" in choices["houlsby"].reason


def test_storage_counts_one_backbone_and_what_each_task_adds(run: Run) -> None:
    scores = {choice.method: choice.score for choice in ranked(run, "storage")}
    assert scores == {"full": 4000, "lora": 1040, "houlsby": 1160}


def test_storage_of_a_fusion_counts_the_adapters_that_it_mixes_once_and_that_of_mtl_all_tasks(
    training: Make, run_of: MakeRun
) -> None:
    run = run_of(
        training("full", checkpoint_bytes=1000, total_parameters=250),
        # 40 parameters are trained, and 10 of adapters are not; a parameter has 4 bytes
        training("adapterfusion(adapters=2)", checkpoint_bytes=170, total_parameters=300, trainable_body=40),
        training("mtl(tasks=2)", workload="train_step", checkpoint_bytes=1100),
    )
    choices = {choice.method: choice for choice in ranked(run, "storage")}
    assert {method: choice.score for method, choice in choices.items()} == {
        "full": 4000,
        "adapterfusion(adapters=2)": 1000 + 40 + 4 * 170,
        "mtl(tasks=2)": 1100,
    }
    assert "and the adapters that they mix, 40 bytes" in choices["adapterfusion(adapters=2)"].reason
    unknown = run_of(
        *(record for record in run.records if record.method != "full"), training("full", task="ner", checkpoint_bytes=1)
    )
    assert "adapterfusion(adapters=2)" not in {choice.method for choice in ranked(unknown, "storage")}
    untold = training("adapterfusion", checkpoint_bytes=170, total_parameters=300)
    assert [choice.method for choice in ranked(run_of(run.records[0], untold), "storage")] == ["full"]


def test_what_takes_too_much_memory_comes_last_with_the_reason(run: Run) -> None:
    choices = ranked(run, "cost-to-quality", memory_bytes=6 * 2**30)
    assert [(choice.method, choice.fits) for choice in choices] == [("lora", True), ("houlsby", True), ("full", False)]
    assert choices[-1].reason == "needs 8.00 GiB to train, more than 6.00 GiB"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16GiB", 2**34),
        ("800MB", 8e8),
        ("1.5 KiB", 1536),
        ("12", 12),
        ("2gb", 2e9),
        ("3B", 3),
        ("3MiB", 3 * 1024 * 1024),
        ("7kB", 7000),
    ],
)
def test_sizes_are_read_with_their_units(text: str, size: float) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "16 Gigs", "-1GB", "1TB2"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no size: write 16GiB"):
        parse_bytes(text)


def test_a_run_without_the_numbers_ranks_nothing(run_of: MakeRun) -> None:
    assert ranked(run_of(), "latency") == ranked(run_of(), "storage") == []


def test_commands_print_tables_and_json(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "run.json")
    save_run(run, Path(path))
    assert main(["claims", path]) == 0
    short = capsys.readouterr().out
    assert main(["claims", path, "--all"]) == 0
    longer = capsys.readouterr().out
    assert longer.startswith(short)
    assert longer.count("\n  ") > short.count("\n  ")  # a line for each case
    assert main(["claims", path]) == 0
    assert "training-time" in capsys.readouterr().out
    assert main(["claims", path, "--format=json", "--target=0.99"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["target"] == "0.99"
    assert main(["claims", path, "--format=markdown"]) == 0
    assert capsys.readouterr().out.startswith("| claim |")
    assert main(["recommend", path, "--memory=6GiB", "--format=json"]) == 0
    assert [choice["method"] for choice in json.loads(capsys.readouterr().out)] == ["lora", "houlsby", "full"]
    assert main(["recommend", path, "--memory=1GiB"]) == 1
    assert "more than 1.00 GiB" in " ".join(capsys.readouterr().out.split())
    inference = [record for record in run.records if record.workload == "inference"]
    save_run(replace(run, records=tuple(inference)), Path(path))
    assert main(["recommend", path]) == 1
    out = capsys.readouterr().out
    assert out.startswith(
        "no method can be ranked by cost-to-quality: the runs must hold trainings of full fine-tuning"
    )
    assert out.endswith("; they have what --objective=latency needs\n")


@pytest.mark.parametrize("command", ["claims", "recommend"])
def test_runs_of_different_models_are_not_taken_together(
    command: str, run: Run, run_of: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    save_run(run, paths[0])
    save_run(run_of(model="other"), paths[1])
    assert main([command, *map(str, paths)]) == 2
    assert "model is other, in" in capsys.readouterr().err
    assert main([command, str(tmp_path / "missing.json")]) == 2


@pytest.mark.parametrize("name", ["train_rows", "epochs", "metric", "seq_len", "autocast", "execution", "threads"])
def test_trainings_under_different_settings_are_not_taken_together(
    name: str, training: Make, run_of: MakeRun, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    save_run(run_of(), paths[0])  # an older run that does not tell
    save_run(run_of(training("full"), **{name: 10}), paths[1])
    save_run(run_of(training("lora"), **{name: 20}), paths[2])
    with pytest.raises(UserError, match=rf"2.json: {name} is 20, in .*1.json it is 10; give runs of one kind"):
        load_runs(paths)


def test_runs_may_try_more_and_settings_of_trainings_bind_trainings_alone(
    training: Make, inference: Make, run_of: MakeRun, tmp_path: Path
) -> None:
    runs = [
        run_of(training("full"), epochs=3, stop="patience", seed=0, learning_rates=[3e-5], test_data=["test.hi"]),
        run_of(training("full", seed=1), epochs=3, stop="patience", seed=1, learning_rates=[1e-3], target="95%"),
        run_of(inference("full", 1.0), epochs=10, stop="budget", seed=0),
    ]
    paths = [tmp_path / f"{number}.json" for number, _ in enumerate(runs)]
    for path, run in zip(paths, runs, strict=True):
        save_run(run, path)
    assert load_runs(paths) == runs
