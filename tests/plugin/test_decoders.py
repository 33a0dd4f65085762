"""Methods that only decoders have, that start from data, or whose backbone is quantised, in a real run."""

from pathlib import Path

from tests.plugin.running import Run, records

PASSED = {"alora", "cpt", "lora(init_lora_weights=lora_ga)", "qlora"}
REFUSED = {"loftq": "PEFT computes LoftQ on an accelerator only"}
PREPARED = {"lora(init_lora_weights=lora_ga)", "qlora"}


def test_a_decoder_is_trained_by_what_only_decoders_have_and_on_a_quantised_backbone(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    methods = ",".join(["lora", *PASSED, *REFUSED])
    result = run(
        "--peftbench-model=tiny-llama", "--peftbench-tasks=sft", "-k", "train_step", f"--peftbench-json={file}",
        f"--peftbench-methods={methods}",
    )  # fmt: skip
    result.assert_outcomes(passed=1 + len(PASSED), skipped=len(REFUSED))
    found = {record["method"]: record for record in records(file).values()}
    for method in PASSED:
        assert found[method]["status"] == "ok", found[method]["reason"]
    assert all(reason in found[method]["reason"] for method, reason in REFUSED.items())
    assert {method for method, record in found.items() if "preparation_s" in record["metrics"]} == PREPARED
    weights = {method: found[method]["metrics"]["weights_bytes"]["value"] for method in ("lora", "qlora")}
    assert weights["qlora"] < weights["lora"] / 2
