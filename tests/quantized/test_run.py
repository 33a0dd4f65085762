"""A quantised backbone in a real run, beside a plain one."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_quantised_backbone_takes_less_memory_in_a_real_run(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", str(ROOT / "benches/bench_train_step.py"), "--benchmark-only", "-q"),
            *("--peftbench-model=tiny-llama", "--peftbench-tasks=sft", "--peftbench-batch-sizes=2"),
            *("--peftbench-methods=lora,qlora,loftq", "--peftbench-rounds=3", f"--peftbench-json={file}"),
            f"--peftbench-work={tmp_path / 'work'}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    found = {record["method"]: record for record in json.loads(file.read_text())["records"]}
    assert found["qlora"]["status"] == "ok", found["qlora"]["reason"]
    assert "PEFT computes LoftQ on an accelerator only" in found["loftq"]["reason"]
    assert "preparation_s" in found["qlora"]["metrics"]
    weights = {method: found[method]["metrics"]["weights_bytes"]["value"] for method in ("lora", "qlora")}
    assert weights["qlora"] < weights["lora"] / 2
