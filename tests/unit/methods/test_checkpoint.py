from pathlib import Path

import pytest
import torch
from torch import nn

from peftbench.errors import UserError
from peftbench.methods import checkpoint

ABOUT = {"method": "some"}


def model(size: int = 3, *, bias: bool = True) -> nn.Module:
    made = nn.ModuleDict({"frozen": nn.Linear(2, 2), "learns": nn.Linear(2, size, bias=bias)})
    made["frozen"].requires_grad_(requires_grad=False)
    return made


def test_holds_what_learns_and_nothing_else(tmp_path: Path) -> None:
    saved = model()
    checkpoint.save(saved, tmp_path, ABOUT)
    tensors, metadata = checkpoint.read(tmp_path / checkpoint.FILE)
    assert tensors.keys() == {"learns.weight", "learns.bias"}
    assert metadata == ABOUT
    loaded = model()
    frozen = loaded["frozen"].weight.clone()  # type: ignore[index] # a ModuleDict
    checkpoint.load(loaded, tmp_path, ABOUT)
    assert torch.equal(loaded["learns"].weight, saved["learns"].weight)  # type: ignore[index] # a ModuleDict
    assert torch.equal(loaded["frozen"].weight, frozen)  # type: ignore[index] # a ModuleDict


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (model(bias=False), r"learns.bias is unexpected \(0 missing, 1 unexpected\); another model or task\?"),
        (model(size=4), r"learns.weight has shape \[3, 2\], the model's has \[4, 2\]"),
        (nn.ModuleDict({"else": nn.Linear(2, 2)}), r"else.bias is missing \(2 missing, 2 unexpected\)"),
    ],
)
def test_another_model_is_refused(other: nn.Module, message: str, tmp_path: Path) -> None:
    checkpoint.save(model(), tmp_path, ABOUT)
    with pytest.raises(UserError, match=message):
        checkpoint.load(other, tmp_path, ABOUT)


def test_another_origin_is_refused(tmp_path: Path) -> None:
    checkpoint.save(model(), tmp_path, ABOUT)
    with pytest.raises(UserError, match="saved with method some, not other"):
        checkpoint.load(model(), tmp_path, {"method": "other"})


@pytest.mark.parametrize("content", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}", b"not a file of tensors"])
def test_a_broken_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / checkpoint.FILE
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read") as caught:
        checkpoint.load(model(), tmp_path, ABOUT)
    assert str(path) in str(caught.value)
