"""AdapterDrop: a random number of the lowest layers skip their adapters in each training step."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from peftbench.methods.paper.bottleneck import PFEIFFER, BottleneckConfig, BottleneckMethod, adapt, bottleneck_maker

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from peftbench.methods.configuration import Configuration
    from peftbench.methods.paper.blocks import Block
    from peftbench.methods.paper.bottleneck_modules import AdaptedOutput

LAYER_DROP: Final = "peftbench_layer_drop"
"""Attribute of an applied model that holds its `LayerDrop`."""


@dataclass(frozen=True, slots=True)
class AdapterDropConfig(BottleneckConfig):
    """What can be overridden of AdapterDrop."""

    max_dropped: int = 10
    """Most layers that skip their adapters in a training step; at least one layer of the model always keeps its own."""
    dropped_at_inference: int = 0
    """How many of the lowest layers skip their adapters in evaluation mode."""


@dataclass(frozen=True, slots=True)
class LayerDrop:
    """Tells the adapters of a model which of them a training step skips: a function of seed and step alone."""

    outputs: Mapping[int, AdaptedOutput]
    """The modules with an adapter, by layer."""
    seed: int
    max_dropped: int

    def begin(self, step: int) -> int:
        """Set and return how many of the lowest layers training step `step` skips; `begin(0)` starts over."""
        dropped = self.drawn(step)
        for layer, output in self.outputs.items():
            output.dropped_in_training = layer < dropped
        return dropped

    def drawn(self, step: int) -> int:
        """Return how many of the lowest layers training step `step` skips, uniform in 0 .. `max_dropped`.

        Step 0 skips none, so that every adapter has been trained once.
        """
        # A text is hashed to a state in the same way on every machine; nearby whole numbers are not independent seeds.
        draw = random.Random(f"{self.seed}/{step}")  # no secret
        return draw.randint(0, self.max_dropped) if step > 0 else 0


@dataclass(frozen=True, kw_only=True)
class AdapterDrop(BottleneckMethod):
    """Pfeiffer's adapters; a training step skips those of some lowest layers, forward and backward."""

    def attach(
        self, model: PreTrainedModel, blocks: list[Block], configuration: Configuration[BottleneckConfig]
    ) -> None:
        """Put a bottleneck into each block, and a `LayerDrop` beside the model."""
        import torch

        values = cast("AdapterDropConfig", configuration.values)
        configuration.require_at_least("max_dropped", 0)
        if configuration.require_at_least("dropped_at_inference", 0) >= len(blocks):
            raise configuration.refusal("dropped_at_inference", f"must be below the model's {len(blocks)} layers")
        make = bottleneck_maker(configuration, model)
        outputs = adapt(blocks, self.placement, configuration, make, scaling=values.scaling)
        for layer, output in outputs.items():
            output.dropped_in_evaluation = layer < values.dropped_at_inference
        seed = int(torch.randint(2**31, ()))
        setattr(model, LAYER_DROP, LayerDrop(outputs, seed, min(values.max_dropped, len(blocks) - 1)))

    def step_hook(self, model: torch.nn.Module) -> Callable[[int], None]:
        """Return what draws the next step's number of skipped layers; without it no step skips any."""
        layer_drop: LayerDrop = getattr(model, LAYER_DROP)

        def hook(step: int) -> None:
            layer_drop.begin(step + 1)

        return hook

    def is_full_step(self, model: torch.nn.Module, number: int) -> bool:
        """Tell whether a step skips no adapter."""
        layer_drop: LayerDrop = getattr(model, LAYER_DROP)
        return layer_drop.drawn(number) == 0

    def remove(self, model: torch.nn.Module) -> torch.nn.Module:
        """Take the `LayerDrop` away as well, which holds on to the adapters."""
        delattr(model, LAYER_DROP)
        return BottleneckMethod.remove(self, model)


METHODS: Final = (
    AdapterDrop(
        name="adapterdrop",
        summary="Pfeiffer's adapters; each training step skips those of 0 to 10 lowest layers",
        source="Rücklé et al. 2021, arXiv 2010.11918, section 3",
        placement=PFEIFFER,
        config=AdapterDropConfig(),
    ),
)
