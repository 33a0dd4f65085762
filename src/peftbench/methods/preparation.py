"""The time that a method spends on a plain model before it adapts it: running it on data, or quantising weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_SPENT: Final = "peftbench_preparation_s"
"""Attribute of the plain model. PEFT's wrappers look up in the plain model what they do not have themselves."""


@contextmanager
def preparing(model: PreTrainedModel) -> Iterator[None]:
    """Add the wall-clock time of the context to the model's preparation time. The device is synchronised at both ends.

    Args:
        model: The plain model, wrapped or not yet.
    """
    _wait_for(model.device)
    start = time.perf_counter()
    yield
    _wait_for(model.device)
    setattr(model, _SPENT, (preparation_s(model) or 0.0) + time.perf_counter() - start)


def preparation_s(model: torch.nn.Module) -> float | None:
    """Return the seconds that a method spent on preparing a model, wrapped or plain; None if it needed none."""
    return cast("float | None", getattr(cast("Any", model), _SPENT, None))


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        from torch import cuda

        cuda.synchronize(device)
