"""Adapters that were not trained, yet change what a model computes."""

from __future__ import annotations

from typing import Final

import torch

NOISE: Final = 0.02
"""Standard deviation of the noise that is added to an untrained adapter, so that it changes the answers."""


def disturbed(model: torch.nn.Module, seed: int, noise: float = NOISE) -> torch.nn.Module:
    """Add noise to the trainable parameters: before training, many adapters change nothing.

    Args:
        model: The model, which is changed.
        seed: Of the noise.
        noise: Its standard deviation.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                drawn = noise * torch.randn(parameter.shape, generator=generator)
                parameter.add_(drawn.to(parameter))
    return model
