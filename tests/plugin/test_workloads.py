"""Which workloads a run measures, and what those beyond the step and the inference tell."""

import re
import shutil
from functools import partial
from pathlib import Path

import peft
import pytest
import torch
from tests.plugin.running import Run, records

from peftbench.matrix.catalogue import Catalogue
from peftbench.models import building
from peftbench.models.presets import PRESETS, ModelSource

BENCHES = Path(__file__).parents[2] / "benches"
LIFE = {"attach", "save", "load", "switch", "merge", "unmerge"}
STEPS = {"train_step", "inference"}
GENERATION = {"prefill", "decode", "generate"}


@pytest.fixture
def repository(benches: pytest.Pytester) -> pytest.Pytester:
    """A project with this repository's own benchmarks."""
    benches.path.joinpath("bench_all.py").unlink()
    shutil.copytree(BENCHES, benches.path / "benches")
    return benches


def collected(project: pytest.Pytester, *arguments: str) -> set[str]:
    """Return the workloads of the cases that a run would measure."""
    options = ("--collect-only", "-q", "--peftbench-methods=lora", "--peftbench-tasks=nli")
    result = project.runpytest_inprocess(*options, *arguments)
    return {found[1] for line in result.outlines if (found := re.search(r"::(\w+)\[", line))}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["benches"], STEPS),
        ([], STEPS),
        (["benches", "--peftbench-workloads=attach,inference"], {"attach", "inference"}),
        (["benches/bench_lifecycle.py"], LIFE),
        (["benches/bench_lifecycle.py::merge", "benches/bench_train_step.py"], {"merge", "train_step"}),
        (["benches/bench_lifecycle.py", "--peftbench-workloads=merge"], {"merge"}),
        (["benches/bench_generation.py"], GENERATION),
    ],
)
def test_a_workload_beyond_the_usual_is_measured_when_it_or_its_file_is_named(
    arguments: list[str], expected: set[str], repository: pytest.Pytester
) -> None:
    assert collected(repository, *arguments) == expected


def test_all_is_every_workload_but_studies(repository: pytest.Pytester) -> None:
    everything = STEPS | LIFE | {"merged_inference"}
    assert collected(repository, "benches", "--peftbench-workloads=all") == everything
    assert collected(repository, "benches", "--peftbench-workloads=all", "--peftbench-tasks=sft") == (
        everything | GENERATION
    )
    assert "convergence" in collected(repository, "benches", "--peftbench-workloads=all,convergence")


def test_an_adapters_life_is_measured_or_says_why_not(repository: pytest.Pytester, run: Run) -> None:
    del repository
    run(
        "benches/bench_lifecycle.py",
        "benches/bench_merged_inference.py",
        "--peftbench-methods=lora,pfeiffer",
        "--peftbench-json=run.json",
    ).assert_outcomes(passed=10, skipped=4)
    found = records(Path("run.json"))
    for stage in (*LIFE, "merged_inference"):
        record = found[f"{stage}[lora-nli-bs2]"]
        metrics = record["metrics"]
        assert record["status"] == "ok"
        assert metrics["time_s"]["value"] > 0
        assert metrics["checkpoint_bytes"]["value"] > 0
        assert ("tokens_per_s" in metrics) == ("ratio" in metrics) == (stage == "merged_inference")
        assert ("operator_calls" in metrics) == (stage not in {"attach", "save", "load"})
        assert ("left_bytes" in metrics) == (stage == "attach")
    assert found["attach[lora-nli-bs2]"]["metrics"]["trainable_body"]["value"] == 2 * 2 * 2 * 8 * 128
    assert found["merged_inference[lora-nli-bs2]"]["metrics"]["trainable_body"]["value"] == 0
    assert found["attach[lora-nli-bs2]"]["metrics"]["left_bytes"]["reason"]
    for stage in ("switch", "merge", "unmerge", "merged_inference"):
        record = found[f"{stage}[pfeiffer-nli-bs2]"]
        assert record["status"] == "unsupported"
        assert record["reason"].startswith("pfeiffer cannot ")


def test_generation_is_measured_in_every_state_of_an_adapter_or_says_why_not(repository: pytest.Pytester) -> None:
    repository.runpytest_inprocess(
        "benches/bench_generation.py",
        "--benchmark-only",
        "--peftbench-model=tiny-llama",
        "--peftbench-methods=full,lora,prefix-peft",
        "--peftbench-batch-sizes=2",
        "--peftbench-rounds=3",
        "--peftbench-prompt-tokens=12",
        "--peftbench-cache-tokens=20",
        "--peftbench-new-tokens=4",
        "--peftbench-json=run.json",
    ).assert_outcomes(passed=15, skipped=6)
    found = records(Path("run.json"))
    cases = {"prefill": ("prompt12", 12, 12), "decode": ("cache20", 1, 21), "generate": ("prompt12-new4", 4, 15)}
    for workload, (lengths, tokens, places) in cases.items():
        for method, state in (("full", ""), ("lora", ""), ("lora", "-adaptermerged"), ("lora", "-adapterdisabled")):
            record = found[f"{workload}[{method}-sft-bs2-{lengths}{state}]"]
            metrics = {name: metric["value"] for name, metric in record["metrics"].items()}
            assert record["seq_len"] == (20 if workload == "decode" else 12)
            assert metrics["tokens_per_s"] == pytest.approx(2 * tokens / metrics["time_s"])
            assert metrics["cache_bytes"] == 2 * places * 2 * 2 * 2 * 32 * 4
            assert metrics["peak_bytes"] >= metrics["weights_bytes"] + metrics["cache_bytes"]
            assert metrics["ratio"] > 0
        assert found[f"{workload}[prefix-peft-sft-bs2-{lengths}]"]["status"] == "unsupported"
        merged = found[f"{workload}[prefix-peft-sft-bs2-{lengths}-adaptermerged]"]
        assert merged["reason"] == "prefix-peft cannot be merged into the weights of the model"


def test_what_does_not_generate_is_a_row_if_it_is_named(repository: pytest.Pytester) -> None:
    options = ("--benchmark-only", "--peftbench-methods=lora", "--peftbench-batch-sizes=2", "--peftbench-json=run.json")
    repository.runpytest_inprocess("benches", *options, "--peftbench-workloads=decode", "--peftbench-tasks=nli")
    reasons = {record["reason"] for record in records(Path("run.json")).values()}
    assert reasons == {"decode needs a task whose answers are generated, such as sft; those of nli are not"}


def test_what_cannot_be_done_is_skipped_when_rounds_are_only_tried(repository: pytest.Pytester) -> None:
    result = repository.runpytest_inprocess(
        "benches/bench_lifecycle.py",
        "--benchmark-disable",
        "--peftbench-methods=pfeiffer",
        "--peftbench-tasks=nli",
        "--peftbench-batch-sizes=2",
    )
    result.assert_outcomes(passed=3, skipped=3)


def test_a_method_that_cannot_be_checkpointed_is_a_row(run: Run) -> None:
    arguments = ("-k", "train_step", "--peftbench-methods=lora,prefix-peft", "--peftbench-json=run.json")
    run(*arguments, "--peftbench-gradient-checkpointing").assert_outcomes(passed=1, skipped=1)
    record = records(Path("run.json"))["train_step[prefix-peft-nli-bs2]"]
    assert record["status"] == "unsupported"
    assert "does not work with gradient checkpointing" in record["reason"]


@pytest.fixture
def _compiler() -> None:
    """Import what torch.compile does: torch's registries do not stand it twice."""
    torch.compile(torch.nn.Identity(), backend="eager")(torch.ones(1))
    torch.compiler.reset()


COMPILED = ("-k", "inference", "--peftbench-methods=head", "--peftbench-reference=none", "--peftbench-json=run.json")


@pytest.mark.usefixtures("_compiler")
def test_a_compiled_run_tells_what_compiling_took_and_counts_the_eager_model(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*COMPILED)
    (eager,) = records(Path("run.json")).values()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    run(*COMPILED, "--peftbench-execution=compile").assert_outcomes(passed=1)
    (compiled,) = records(Path("run.json")).values()
    assert "compile_s" not in eager["metrics"]
    assert compiled["metrics"]["compile_s"]["value"] > 0
    assert compiled["operators"] == eager["operators"]
    assert compiled["operator_hash"] == eager["operator_hash"]
    for name in ("flops", "saved_bytes", "peak_live_bytes", "allocations", "peak_bytes"):
        assert compiled["metrics"][name] == eager["metrics"][name]
    assert "counters and peak_bytes describe the eager model" in compiled["warnings"]


@pytest.mark.usefixtures("_compiler")
def test_a_folders_adapter_is_trained_on_packed_examples_and_generates_compiled(
    repository: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ModelSource("tiny-llama", preset=next(preset for preset in PRESETS if preset.name == "tiny-llama"))
    configs: dict[str, peft.PeftConfig] = {
        "mine": peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
        "prompt": peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    }
    for name, config in configs.items():
        model = building.build_model(source, Catalogue.load().task("sft"), seed=0)
        peft.get_peft_model(model, config).save_pretrained(name, save_embedding_layers=False)
    backends: list[object] = []
    compiled = torch.compile

    def by_eager(model: object = None, **options: object) -> object:
        backends.append(options.get("backend", "inductor"))
        return compiled(model, **{**options, "backend": "eager", "mode": None})  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "compile", by_eager)
    repository.runpytest_inprocess(
        "benches/bench_generation.py",
        "benches/bench_train_step.py",
        "--benchmark-only",
        "--peftbench-model=tiny-llama",
        "--peftbench-tasks=sft",
        "--peftbench-methods=./mine,./prompt",
        "--peftbench-batch-sizes=2",
        "--peftbench-seq-len=32",
        "--peftbench-rounds=3",
        "--peftbench-reference=none",
        "--peftbench-prompt-tokens=6",
        "--peftbench-cache-tokens=6",
        "--peftbench-new-tokens=3",
        "--peftbench-packing",
        "--peftbench-execution=compile",
        "--peftbench-json=run.json",
        "-k",
        "not merged and not disabled",
    ).assert_outcomes(passed=4, skipped=4)
    found = records(Path("run.json"))
    assert {record["workload"] for record in found.values()} == {"train_step", *GENERATION}
    for record in found.values():
        if record["method"] == "mine":
            assert any("from a folder with its weights" in line for line in record["warnings"])
            assert record["metrics"]["compile_s"]["value"] > 0
        else:
            assert record["reason"] == "prompt puts a prompt before a sequence, not before each packed example"
    assert backends == ["inductor"] * 4


@pytest.mark.usefixtures("_compiler")
def test_a_method_that_cannot_be_compiled_is_a_row(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(*_: object) -> object:
        raise NotImplementedError("not this operator\nand more")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    run(*COMPILED, "--peftbench-execution=compile").assert_outcomes(skipped=1)
    (record,) = records(Path("run.json")).values()
    assert record["status"] == "unsupported"
    assert record["reason"] == "torch.compile: NotImplementedError: not this operator"
