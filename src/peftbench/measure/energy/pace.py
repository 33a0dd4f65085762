"""Keeps the host a few steps ahead of a CUDA device, and no further."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

AHEAD: Final = 3
"""Steps that may be launched and unfinished. The device then waits for no step, unless a step takes microseconds."""


def paced(step: Callable[[int], object], device: torch.device, *, cuda: Any = None) -> Callable[[int], object]:  # noqa: ANN401 - see below
    """Return a step that waits, before it begins, until fewer than `AHEAD` of those before it are unfinished.

    The driver queues a thousand launches. A replayed graph is one launch, so that a host which never waits would queue
    steps for minutes in the second that a window should take.

    Args:
        step: Runs one step, given its number. It does not wait for the device.
        device: The device.
        cuda: Stand-in for `torch.cuda`, for tests.
    """
    if cuda is None:
        from torch import cuda
    stream = cuda.current_stream(device)
    free = [cuda.Event(blocking=True) for _ in range(AHEAD)]
    waiting: deque[Any] = deque()

    def run(number: int) -> None:
        if not free:
            oldest = waiting.popleft()
            oldest.synchronize()
            free.append(oldest)
        step(number)
        event = free.pop()
        event.record(stream)
        waiting.append(event)

    return run
