"""What a run measures, and where the numbers go."""

import json
import math
from importlib.metadata import version
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator
from tests.plugin.running import Run, records

from peftbench.records.runfile import load_run

EXACT = (
    "flops",
    "operator_calls",
    "saved_bytes",
    "peak_live_bytes",
    "allocations",
    "trainable_body",
    "trainable_head",
    "total_parameters",
    "python_calls",
    "bytecodes",
    "peak_bytes",
    "checkpoint_bytes",
)


@pytest.fixture
def measured(run: Run) -> pytest.RunResult:
    return run("--peftbench-json=run.json", "--benchmark-json=theirs.json")


def test_a_run_yields_a_table_a_run_file_and_pytest_benchmarks_own(
    measured: pytest.RunResult, benches: pytest.Pytester
) -> None:
    measured.assert_outcomes(passed=4)
    measured.stdout.fnmatch_lines(
        [
            "*= peftbench =*",
            "machine *1 thread(s)*",
            "model    tiny (random weights*",
            "train_step  nli, batch size 2, 16 tokens",
            "method*ms*x full*status*",
            "full * 1.00 *ok*",
            "lora *ok*",
            "inference  nli, batch size 2, 16 tokens",
            "4 cases in *in timed rounds *",
            "*benchmark 'inference nli-bs2': 2 tests*",
        ]
    )
    ours = records(benches.path / "run.json")
    assert list(ours) == [
        "train_step[full-nli-bs2]",
        "train_step[lora-nli-bs2]",
        "inference[full-nli-bs2]",
        "inference[lora-nli-bs2]",
    ]
    theirs = {
        benchmark["name"]: benchmark
        for benchmark in json.loads((benches.path / "theirs.json").read_text())["benchmarks"]
    }
    for name, record in ours.items():
        assert record == theirs[name]["extra_info"]["peftbench"]
        assert theirs[name]["stats"]["rounds"] == record["launches"][0]["rounds"] == 3
        assert theirs[name]["stats"]["median"] == pytest.approx(record["metrics"]["time_s"]["value"], rel=0.2)


def test_a_record_holds_what_it_promises(measured: pytest.RunResult, benches: pytest.Pytester) -> None:
    del measured
    run = load_run(benches.path / "run.json")
    schema = json.loads(files("peftbench.records").joinpath("run.schema.json").read_text())
    Draft202012Validator(schema).validate(json.loads((benches.path / "run.json").read_text()))
    assert run.fingerprint["torch"] == version("torch")
    assert run.fingerprint["threads"] == "1"
    assert run.settings["model"] == "tiny"
    full, lora, full_inference, _ = run.records
    for record in run.records:
        assert all(record.metrics[name].noise == "exact" for name in EXACT)
        assert record.launches[0].x is not None
        assert record.metrics["ratio"].value == pytest.approx(math.exp(record.launches[0].x))
        assert sum(record.operators.values()) == record.metrics["operator_calls"].value
        assert record.stop == "rounds"
    phases = [full.metrics[f"{phase}_s"].value for phase in ("forward", "backward", "optimizer")]
    assert all(phase is not None and phase > 0 for phase in phases)
    assert "backward_s" not in full_inference.metrics
    # 2 layers x query and value x two factors of rank 8 and width 128; 3 classes.
    assert lora.metrics["trainable_body"].value == 2 * 2 * 2 * 8 * 128
    assert lora.metrics["trainable_head"].value == full.metrics["trainable_head"].value == 128 * 3 + 3
    lora_bytes, full_bytes = (record.metrics["peak_bytes"].value for record in (lora, full))
    assert lora_bytes is not None
    assert full_bytes is not None
    assert lora_bytes < full_bytes


def test_counters_are_equal_in_another_run(run: Run, benches: pytest.Pytester) -> None:
    run("--peftbench-json=a.json", "-k", "train_step")
    run("--peftbench-json=b.json", "-k", "train_step")
    first, second = records(benches.path / "a.json"), records(benches.path / "b.json")
    for name, record in first.items():
        assert record["operator_hash"] == second[name]["operator_hash"]
        for metric in EXACT:
            assert record["metrics"][metric] == second[name]["metrics"][metric], (name, metric)


def test_pytest_benchmark_is_told_the_time_of_each_round_without_what_prepares_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from peftbench.plugin.fixture import _observed
        from peftbench.measure.time.clock import Timing

        TIMES_S = [0.25, 0.5, 0.125]  # the calls themselves, which would prepare as well, take others

        def test_rounds(benchmark):
            observed = _observed(benchmark, lambda number: Timing(TIMES_S[number]))
            assert [observed(number).wall_s for number in range(3)] == TIMES_S
            assert benchmark.stats.stats.data == TIMES_S
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
