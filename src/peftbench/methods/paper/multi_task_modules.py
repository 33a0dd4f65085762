"""The heads of several tasks on one encoder, and whose turn it is."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass

import torch
from torch import nn


class TaskHeads(nn.Module):
    """Heads of one kind, of which one is used: in training the one whose turn it is, else the first.

    Args:
        head: the plain model's head, or part of it; becomes the first.
        tasks: how many heads there are.
        std: of the further ones' random weights; vectors start as the first head's do.
    """

    def __init__(self, head: nn.Module, tasks: int, *, std: float) -> None:
        super().__init__()
        self.heads = nn.ModuleList([head])
        self.turn = 0
        for _ in range(tasks - 1):
            further = copy.deepcopy(head)
            for parameter in further.parameters():
                if parameter.dim() > 1:
                    # Drawn on the CPU, whose generator the seed sets, wherever the model is.
                    parameter.data.copy_(std * torch.randn(parameter.shape))
            self.heads.append(further)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return what one head makes of the encoder's output."""
        output: torch.Tensor = self.heads[self.turn if self.training else 0](hidden)
        return output


@dataclass(frozen=True, slots=True)
class TaskTurns:
    """Tells the heads whose turn it is: a function of seed and step alone."""

    heads: tuple[TaskHeads, ...]
    """The parts of the head."""
    seed: int

    def begin(self, step: int) -> int:
        """Set and return the task of training step `step`: in N steps each of N tasks once, in an order drawn anew.

        Step 0 is the first task's. `begin(0)` starts over.
        """
        tasks = len(self.heads[0].heads)
        cycle, place = divmod(step, tasks)
        order = random.Random(f"{self.seed}/{cycle}").sample(range(tasks), tasks)  # no secret
        first = order.index(0) if cycle == 0 else 0
        turn = order[(place + first) % tasks]
        for head in self.heads:
            head.turn = turn
        return turn
