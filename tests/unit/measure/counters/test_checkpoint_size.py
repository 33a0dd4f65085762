import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from peftbench.gate.meaning import TOTALS
from peftbench.measure.counters.checkpoint_size import CheckpointSize, checkpoint_size

TENSORS = {"a": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.bfloat16)}
BYTES = 4 * 15 + 2 * 7


def test_tensors_are_told_from_header_configuration_and_card(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    found = checkpoint_size(tmp_path)
    assert found.tensor_bytes == BYTES
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_version": "0.21.2"}))
    card = tmp_path / "more" / "README.md"
    card.parent.mkdir()
    card.write_text("a card")
    more = checkpoint_size(tmp_path)
    assert (more.tensor_bytes, more.other_bytes) == (BYTES, found.other_bytes + 26 + 6)
    assert more.total_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.*"))


def test_a_longer_header_is_no_more_tensors(tmp_path: Path) -> None:
    sizes = []
    for version in ("1", "1.2.3 and a longer name"):
        save_file(TENSORS, tmp_path / "a.safetensors", metadata={"version": version})
        sizes.append(checkpoint_size(tmp_path))
    assert sizes[0].tensor_bytes == sizes[1].tensor_bytes == BYTES
    assert sizes[0].other_bytes < sizes[1].other_bytes


def test_what_torch_saves_is_measured_without_being_unpickled(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "adapter.pt")
    assert checkpoint_size(tmp_path).tensor_bytes == BYTES


@pytest.mark.parametrize("name", ["weights.bin", "weights.safetensors"])
def test_files_of_an_unknown_form_are_no_tensors(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff" * 100)
    assert checkpoint_size(tmp_path) == CheckpointSize(0, 100)


def test_parts_and_sum_are_metrics_by_the_names_that_the_gate_knows() -> None:
    metrics = {name: metric.value for name, metric in CheckpointSize(10, 3).metrics().items()}
    ((total, parts),) = TOTALS.items()
    assert metrics.keys() == {total, *parts}
    assert metrics[total] == sum(metrics[part] or 0 for part in parts) == 13
