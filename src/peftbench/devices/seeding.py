"""Random numbers from a seed, without a change of the caller's generators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_generators(seed: int) -> None:
    """Seed torch's generators on the CPU, and on CUDA devices once CUDA is in use.

    `torch.manual_seed` also leaves word for devices that may be used later, each time with the whole stack as text.
    That takes a millisecond in a process without a GPU.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # torch's own
        torch.cuda.manual_seed_all(seed)


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Within the context, torch's generators on the CPU and on `device` start from `seed`. They are put back later.

    Other devices are not touched, as they would be by `torch.manual_seed`.
    """
    import torch

    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield
