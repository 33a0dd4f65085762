"""A training step without transformers: small enough to be counted by hand, and to be run in another process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from peftbench.measure.counters.counting import Counters, count

ROWS, WIDTH, HIDDEN, CLASSES = 6, 8, 16, 3


class Toy(nn.Module):
    """A frozen layer, then a trained one: base -> relu -> dropout -> head."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(WIDTH, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)
        self.base.requires_grad_(requires_grad=False)
        self.kept: list[torch.Tensor] = []
        self.extra: Sequence[Callable[[torch.Tensor], object]] = ()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.dropout(torch.relu(self.base(x)), 0.1)
        for function in self.extra:
            function(hidden)
        return torch.as_tensor(self.head(hidden))


def make_step(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Callable[[], object]:
    """Return one step of training, taken twice already."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    x, labels = torch.ones(ROWS, WIDTH), torch.zeros(ROWS, dtype=torch.long)

    def step() -> None:
        torch.autograd.backward(nn.functional.cross_entropy(model(x), labels))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    step()
    return step


def counted(*extra: Callable[[torch.Tensor], object], unfrozen: bool = False) -> Counters:
    """Count the step of a toy whose forward also calls `extra` on its hidden layer."""
    model = Toy()
    model.extra = extra
    model.base.requires_grad_(requires_grad=unfrozen)
    step = make_step(model, [p for p in model.parameters() if p.requires_grad])
    return count(step, model, heads=frozenset({"head"}))


def summary(counters: Counters) -> dict[str, object]:
    """Return all that must be equal from launch to launch, as JSON types."""
    values: dict[str, object] = {name: metric.value for name, metric in counters.metrics().items()}
    return {**values, "hash": counters.operators.operator_hash, "calls": dict(counters.operators.operators)}


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    sys.stdout.write(json.dumps(summary(counted())))
