"""The number of a model's parameters, and of those that are trained: in the body, in the head, and in each module."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench.methods.base import is_head, place_of_plain
from peftbench.methods.quantized.storage import elements
from peftbench.records.record import Metric

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of elements in parameters. A shared (tied) parameter counts once."""

    trainable_body: int
    trainable_head: int
    total: int
    modules: Mapping[str, int]
    """Trainable elements by module name. Layer numbers are replaced by *, so that a row stands for all layers."""

    def metrics(self) -> dict[str, Metric]:
        """Return the numbers as metrics of a record."""
        numbers = {
            "trainable_body": self.trainable_body,
            "trainable_head": self.trainable_head,
            "total_parameters": self.total,
        }
        return {name: Metric(value=value, unit="1") for name, value in numbers.items()}


def count_parameters(model: torch.nn.Module, heads: frozenset[str]) -> Parameters:
    """Count the parameters of `model`, with a method applied or without.

    Args:
        model: Any module.
        heads: Names of the top-level modules that are the task head, from `head_names` of the plain model.
    """
    body = head = total = 0
    modules: Counter[str] = Counter()
    place = place_of_plain(model)
    for wrapped_name, parameter in model.named_parameters():
        name = wrapped_name.removeprefix(place)
        total += elements(parameter)
        if not parameter.requires_grad:
            continue
        if is_head(name, heads):
            head += parameter.numel()
        else:
            body += parameter.numel()
        modules[_module(name)] += parameter.numel()
    return Parameters(trainable_body=body, trainable_head=head, total=total, modules=dict(modules))


def _module(parameter_name: str) -> str:
    module = parameter_name.rpartition(".")[0]
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", module)
