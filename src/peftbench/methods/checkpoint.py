"""Saves and loads what a method trained: one safetensors file that also tells what it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from peftbench.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

FILE: Final = "adapter.safetensors"


def save(model: torch.nn.Module, folder: Path, about: Mapping[str, str]) -> None:
    """Write the trainable parameters of `model`, a shared one once, and `about` as the file's metadata."""
    from safetensors.torch import save_file

    tensors = {name: parameter.detach().contiguous() for name, parameter in _trained(model).items()}
    save_file(tensors, folder / FILE, metadata=dict(about))


def load(model: torch.nn.Module, folder: Path, about: Mapping[str, str]) -> None:
    """Fill the trainable parameters of `model` with those that `save` wrote.

    Raises:
        UserError: the file cannot be read, was saved from another method or configuration, or does not hold exactly
            the parameters of `model`.
    """
    import torch

    path = folder / FILE
    tensors, metadata = read(path)
    for key, value in about.items():
        if metadata.get(key) != value:
            raise UserError(f"{path}: saved with {key} {metadata.get(key, 'unknown')}, not {value}")
    expected = _trained(model)
    require_same_names(path, tensors, expected)
    with torch.no_grad():
        for name, parameter in expected.items():
            copy_into(parameter, tensors[name], path, name)


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file; UserError if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 # no dict
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give a folder that was saved by the same method") from error


def require_same_names(path: Path, found: Iterable[str], expected: Iterable[str]) -> None:
    """Raise a UserError that names the first missing or unexpected tensor of a file."""
    missing = sorted(set(expected) - set(found))
    unexpected = sorted(set(found) - set(expected))
    if missing or unexpected:
        first = f"{missing[0]} is missing" if missing else f"{unexpected[0]} is unexpected"
        raise UserError(
            f"{path}: {first} ({len(missing)} missing, {len(unexpected)} unexpected); another model or task?"
        )


def copy_into(parameter: torch.nn.Parameter, tensor: torch.Tensor, path: Path, name: str) -> None:
    """Copy a tensor of a file into a parameter of the same shape; its dtype and device stay the parameter's.

    Raises:
        UserError: the shapes differ; names `path` and `name`.
    """
    if parameter.shape != tensor.shape:
        raise UserError(f"{path}: {name} has shape {list(tensor.shape)}, the model's has {list(parameter.shape)}")
    parameter.copy_(tensor)


def _trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
