"""Fills a model of PEFT with the weights of a folder, and refuses those that are not its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peftbench.errors import UnsupportedError, ValidityError
from peftbench.methods.base import head_names, is_head
from peftbench.methods.checkpoint import read

if TYPE_CHECKING:
    from pathlib import Path

    import torch


def filled(model: Any, weights: Path) -> None:  # noqa: ANN401 - PEFT's model
    """Copy the tensors of a file into a model to which the same configuration was applied.

    A head that the file lacks stays as it was drawn: PEFT saves none with adapters for generation or features.

    Raises:
        UserError: the file cannot be read.
        UnsupportedError: it holds other tensors than the model, or of another shape or kind.
        ValidityError: one holds numbers that are not finite, or PEFT did not load it.
    """
    import torch
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    found, _ = read(weights)
    if broken := next((name for name, tensor in found.items() if not tensor.isfinite().all()), None):
        raise ValidityError(f"{weights}: {broken} holds numbers that are not finite: its training has failed")
    expected: Mapping[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    heads = head_names(model.get_base_model())
    drawn = {name: one for name, one in expected.items() if name not in found and is_head(name, heads)}
    tensors = {**drawn, **found}
    _require_same(weights, tensors, expected, heads)
    set_peft_model_state_dict(model, dict(tensors))
    after = get_peft_model_state_dict(model, save_embedding_layers=False)
    for name, tensor in found.items():
        if not torch.equal(after[name], tensor.to(after[name])):
            raise ValidityError(f"{weights}: {name} was not loaded")


def _kind(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _require_same(
    path: Path, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], heads: frozenset[str]
) -> None:
    if different := sorted(found.keys() ^ expected.keys()):
        missing = "lacks" if different[0] in expected else "has"
        raise UnsupportedError(
            f"{path} belongs to another backbone, or to another configuration: it {missing} {different[0]} "
            f"({len(different)} of {len(expected)} tensors differ)"
        )
    for name, tensor in found.items():
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise UnsupportedError(f"{path}: {name} is {_kind(tensor)}, here {_kind(expected[name])}")
        wanted = list(expected[name].shape)
        if list(tensor.shape) != wanted:
            what = "a head for other classes" if is_head(name, heads) else "a backbone of another shape"
            raise UnsupportedError(f"{path} belongs to {what}: {name} is {list(tensor.shape)}, here {wanted}")
