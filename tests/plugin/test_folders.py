"""Adapters' folders as methods in real pytest runs: what is measured, resumed and refused."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from tests.plugin.running import Run, records
from tests.plugin.test_studies import STUDIES
from transformers import AutoModelForSequenceClassification

from peftbench.gate.compare import compare
from peftbench.gate.snapshot import snapshot_of
from peftbench.records.runfile import load_run
from peftbench.report.cause import cause


def settings_of(folder: Path, **changes: object) -> None:
    """Change the configuration in a folder."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def adapters(benches: pytest.Pytester, tiny_model: Path) -> Path:
    """A folder with two adapters of a tiny BERT: `with-weights`, and `bare`, a configuration with its training."""
    folder = benches.path / "adapters"
    for name in ("bare", "with-weights"):
        model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=3)
        config = peft.LoraConfig(r=4, target_modules=["query"], task_type="SEQ_CLS")
        adapted = peft.get_peft_model(model, config)
        with torch.no_grad():
            for parameter in adapted.parameters():
                parameter.add_(0.1 if parameter.requires_grad else 0.0)
        adapted.save_pretrained(folder / name, save_embedding_layers=False)
    (folder / "bare/adapter_model.safetensors").unlink()
    (folder / "bare/training_params.json").write_text(json.dumps({"optimizer_kwargs": {"lr": 0.02}}))
    return folder


def test_folders_are_measured_beside_methods_and_a_changed_one_is_not_resumed(
    run: Run, benches: pytest.Pytester, adapters: Path, tiny_model: Path
) -> None:
    asked = (f"--peftbench-model={tiny_model}", "--peftbench-methods=lora,./adapters/*", "--peftbench-json=run.json")
    run(*asked).assert_outcomes(passed=6)
    found = records(benches.path / "run.json")
    assert list(found)[:3] == [f"train_step[{name}-nli-bs2]" for name in ("lora", "bare", "with_weights")]
    assert {record["status"] for record in found.values()} == {"ok"}
    told = found["inference[with_weights-nli-bs2]"]["warnings"]
    assert any(line.startswith("LORA from a folder with its weights, content ") for line in told)
    before = found["train_step[bare-nli-bs2]"]["metrics"]["trainable_body"]["value"]
    baseline = snapshot_of(load_run(benches.path / "run.json"))
    settings_of(adapters / "bare", r=8)
    run(*asked, "--peftbench-resume").assert_outcomes(passed=2, skipped=4)
    again = json.loads((benches.path / "run.json").read_text())
    assert again["notes"]["resumed"] == 4
    after = records(benches.path / "run.json")["train_step[bare-nli-bs2]"]["metrics"]["trainable_body"]["value"]
    assert after == 2 * before
    # A gate tells it: the same case, and what made all else grow.
    gated = compare(baseline, snapshot_of(load_run(benches.path / "run.json")))
    (red,) = (case for case in gated.cases if case.id == "train_step[bare-nli-bs2]")
    assert red.verdict == "regressed"
    assert cause(red, gated).startswith(f"100.0 % more trained parameters ({before} -> {after}: +")
    assert {case.verdict for case in gated.cases if "bare" not in case.id} <= {"unchanged", "inconclusive"}


def test_a_training_takes_the_learning_rate_of_the_folder_unless_one_is_asked_for(
    benches: pytest.Pytester, adapters: Path
) -> None:
    benches.makepyfile(bench_studies=STUDIES)
    collect = (
        "bench_studies.py",
        "--collect-only",
        "-q",
        "--peftbench-tasks=nli",
        f"--peftbench-methods={adapters}/bare",
    )
    result = benches.runpytest_inprocess(*collect)
    result.stdout.fnmatch_lines([f"*convergence[[]bare-nli-bs32-seed{seed}-lr0.02]" for seed in range(3)])
    protocol = benches.runpytest_inprocess(*collect, "--peftbench-protocol=adapter-efficiency")
    protocol.stdout.fnmatch_lines(["*convergence[[]bare-nli-bs32-seed0-lr0.02]"])
    asked = benches.runpytest_inprocess(*collect, "--peftbench-learning-rates=0.5")
    asked.stdout.fnmatch_lines(["*convergence[[]bare-nli-bs32-seed0-lr0.5]"])


def test_a_folder_that_cannot_be_measured_is_one_line_before_anything_runs(
    run: Run, adapters: Path, tiny_model: Path
) -> None:
    gone = run("--peftbench-methods=./gone")
    gone.stderr.fnmatch_lines(["ERROR: *method folder './gone' does not exist: give a folder with adapter_*"])
    settings_of(adapters / "bare", attention_of_tomorrow=1)
    later = run(f"--peftbench-model={tiny_model}", "--peftbench-methods=./adapters/bare")
    text = "\n".join([*later.outlines, *later.errlines])
    assert "the installed PEFT does not know 'attention_of_tomorrow' of a LORA configuration" in text
    assert "Traceback" not in text
    later.assert_outcomes()
