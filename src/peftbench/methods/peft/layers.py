"""The layers of a model's backbone, and what a configuration must fit of those that a tuner adapts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, cast

from peftbench.errors import UserError, shown
from peftbench.methods.base import is_head, outer_names

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ALL_LINEAR: Final = "all-linear"


@dataclass(frozen=True, slots=True)
class Layers:
    """What a configuration must fit: the number of adapted layers and the dimensions of their matrices."""

    count: int
    smallest: int
    """The smallest dimension (in or out) of all; 0 where no adapted layer is linear."""
    common: int
    """The greatest common divisor of all dimensions."""

    @classmethod
    def of(cls, model: PreTrainedModel, target_modules: str | Iterable[str]) -> Self:
        """Collect the modules of the backbone that PEFT would adapt: by suffix, pattern or `all-linear`.

        Raises:
            UserError: nothing matches, or the pattern is not a regular expression; names what exists.
        """
        matched = [module for name, module in backbone(model) if matches(name, module, target_modules)]
        if not matched:
            shown = target_modules if isinstance(target_modules, str) else "+".join(target_modules)
            raise UserError(f"target_modules={shown} matches nothing in {known_names(model)}")
        dimensions = [size for module in matched if is_linear(module) for size in cast("Any", module).weight.shape]
        return cls(len(matched), min(dimensions, default=0), math.gcd(*dimensions))

    def rank(self, limit: int, *, share: int = 2) -> int:
        """Return the tuner's usual rank, or a `share`-th of the smallest dimension where that is less."""
        return max(1, min(limit, self.smallest // share))

    def divisor(self, limit: int) -> int:
        """Return the largest number up to `limit` that divides every dimension."""
        return max(self.divisors(limit))

    def divisors(self, limit: int) -> list[int]:
        """Return the numbers up to `limit` that divide every dimension, rising."""
        return [number for number in range(1, limit + 1) if self.common % number == 0]


NO_LAYERS: Final = Layers(count=0, smallest=0, common=0)


def backbone(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield the modules outside the head by name; parts that read no text (an image's encoder) are left out."""
    outer = outer_names(model)
    others = other_readers(model)
    for name, module in model.named_modules():
        if name and not is_head(name, outer) and not name.startswith(others):
            yield name, module


def other_readers(model: PreTrainedModel) -> tuple[str, ...]:
    """Return what the names begin with of those parts of a model that read something else than token ids."""
    from transformers import PreTrainedModel

    readers = ((name, module) for name, module in model.named_modules() if isinstance(module, PreTrainedModel))
    return tuple(f"{name}." for name, module in readers if name and module.main_input_name != "input_ids")


def is_linear(module: torch.nn.Module) -> bool:
    """Tell whether a module is a linear layer, GPT-2's kind among them."""
    import torch
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, torch.nn.Linear | Conv1D)


def matches(name: str, module: torch.nn.Module, target_modules: str | Iterable[str]) -> bool:
    """Tell whether PEFT would adapt a module.

    Raises:
        UserError: the pattern is not a regular expression.
    """
    if target_modules == ALL_LINEAR:
        return is_linear(module)
    if isinstance(target_modules, str):
        try:
            return re.fullmatch(target_modules, name) is not None
        except (re.error, RecursionError, OverflowError) as error:  # the last two: brackets or a number beyond bounds
            raise UserError(f"target_modules={shown(target_modules)} is no regular expression: {error}") from error
    return any(name == target or name.endswith(f".{target}") for target in target_modules)


def known_names(model: PreTrainedModel) -> str:
    """Return the model's type and what its linear layers are called, for a message."""
    names = sorted({name.rpartition(".")[2] for name, module in backbone(model) if is_linear(module)})
    return f"{model.config.model_type}, whose linear layers are called {', '.join(names)}"
