"""Finds the blocks of a model by its anatomy, and the layers that a user names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench.errors import UnsupportedError, UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from peftbench.methods.anatomy import Anatomy, Stack


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a model, and the description of its kind."""

    module: nn.Module
    stack: Stack

    def part(self, path: str) -> nn.Module:
        """Return the module at `path` below the block.

        Raises:
            UserError: the block has none there: the anatomy is not that of this model.
        """
        return part(self.module, path)

    def replace(self, path: str, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
        """Put what `make` makes of the module at `path` in its place, and return it."""
        new = make(self.part(path))
        parent, _, name = path.rpartition(".")
        setattr(self.part(parent), name, new)
        return new


def part(module: nn.Module, path: str) -> nn.Module:
    """Return the module at `path` below `module`; UserError if there is none."""
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        raise UserError(f"the anatomy names {path!r}, which {type(module).__name__} has not: {error}") from error


def why_not_understood(architecture: str, anatomies: Mapping[str, Anatomy]) -> str:
    """Return why the blocks of a model of `architecture` are not understood, or ''."""
    if architecture in anatomies:
        return ""
    return f"the anatomy of {architecture!r} is not described; add it in ten lines: peftbench.Anatomy, docs/extend.md"


def blocks_of(model: PreTrainedModel, anatomies: Mapping[str, Anatomy]) -> list[Block]:
    """Return the transformer blocks of `model`, in the order of computation.

    Raises:
        UnsupportedError: no anatomy describes the model.
        UserError: the anatomy does not fit the model.
    """
    architecture = model.config.model_type
    if reason := why_not_understood(architecture, anatomies):
        raise UnsupportedError(reason)
    found = [
        Block(module, stack)
        for stack in anatomies[architecture].stacks
        if hasattr(model.base_model, stack.blocks.partition(".")[0])
        for module in _matches(model.base_model, stack.blocks)
    ]
    if not found:
        paths = ", ".join(stack.blocks for stack in anatomies[architecture].stacks)
        raise UserError(f"the anatomy of {architecture!r} names {paths}, where {type(model).__name__} has no blocks")
    return found


def stack_path(model: PreTrainedModel, stack: Stack) -> str:
    """Return the path, below `model`, of the module that runs the blocks of `stack`.

    Raises:
        UnsupportedError: it is `model` itself, which nothing can stand for.
    """
    backbone = "" if model.base_model is model else model.base_model_prefix
    above = stack.blocks.partition(".*")[0].rpartition(".")[0]  # what holds the list of blocks
    path = ".".join(filter(None, (backbone, above)))
    if not path:
        raise UnsupportedError(f"{type(model).__name__} runs its blocks itself; give a model with a task head")
    return path


def _matches(module: nn.Module, path: str) -> list[nn.Module]:
    """Return the modules below `module` whose path is `path`, in which `*` stands for every child."""
    before, star, after = path.partition("*")
    found = part(module, before.strip("."))
    if not star:
        return [found]
    return [match for child in found.children() for match in _matches(child, after.strip("."))]


def layer_numbers(text: str, count: int) -> list[int]:
    """Return the layers named by `text`, ascending: `all`, or numbers and ranges joined by plus signs (`0-3+11`).

    Raises:
        ValueError: the text cannot be read, or names a layer that a model of `count` layers does not have.
    """
    if text == "all":
        return list(range(count))
    found: set[int] = set()
    for piece in text.split("+"):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", piece)
        if match is None:
            raise ValueError(f"{piece!r} is no layer; write all, or numbers and ranges such as 0-3+11")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise ValueError(f"{piece} is an empty range")
        if last >= count:
            raise ValueError(f"no layer {last}; the model has layers 0 to {count - 1}")
        found.update(range(first, last + 1))
    return sorted(found)
