"""How weights are updated, apart from the method that says which ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Optimization:
    """How weights are updated; neither number changes the time of a step."""

    learning_rate: float = 3e-5
    """The paper's, for every method."""
    weight_decay: float = 0.1
    implementation: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments that choose the implementation of a PyTorch optimizer: `Precision.optimizer_arguments`."""
    further: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the method's own optimizer, as the user's files give them."""
