"""Methods that only decoders have, or that start from data, in a real run."""

from pathlib import Path

from tests.plugin.running import Run, records

PREPARED = "lora(init_lora_weights=lora_ga)"
METHODS = {"alora", "cpt", PREPARED}


def test_a_decoder_is_trained_by_what_only_decoders_have_and_from_a_start_from_data(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    result = run(
        "--peftbench-model=tiny-llama", "--peftbench-tasks=sft", "-k", "train_step", f"--peftbench-json={file}",
        f"--peftbench-methods={','.join(METHODS)}",
    )  # fmt: skip
    result.assert_outcomes(passed=len(METHODS))
    found = {record["method"]: record for record in records(file).values()}
    assert {method for method, record in found.items() if "preparation_s" in record["metrics"]} == {PREPARED}
