"""Words that options choose between.

They stand in a module of their own because every pytest run reads them, and what they stand for is slow to import.
"""

from __future__ import annotations

from typing import Final

REFERENCES: Final = ("base", "full", "none")
DTYPES: Final = ("float32", "bfloat16", "float16")
AUTO: Final = "auto"
"""Value of a setting that follows from the device."""
ATTENTIONS: Final = ("eager", "sdpa", "flash_attention_2")
"""Implementations of attention in transformers."""
OPTIMIZERS: Final = ("loop", "foreach", "fused")
"""Implementations of a PyTorch optimizer."""
EXECUTIONS: Final = ("eager", "compile", "compile:reduce-overhead", "compile:max-autotune", "graph")
"""How rounds are executed. What follows `compile:` is a mode of torch.compile."""
ENERGIES: Final = ("auto", "on", "off")
STOPS: Final = ("patience", "target", "budget")
"""What ends a training."""
ANSWERS: Final = ("whole", "last-number")
"""How a generated answer is read before it is compared."""
SCHEDULES: Final = ("linear", "cosine", "constant")
"""How the learning rate falls after the warm-up."""
PROTOCOLS: Final = ("peft-metamathqa", "adapter-efficiency")
"""Named sets of settings (`config.protocols`)."""
COMBINATIONS: Final = (
    "linear",
    "cat",
    "svd",
    "ties",
    "ties_svd",
    "dare_linear",
    "dare_linear_svd",
    "dare_ties",
    "dare_ties_svd",
    "magnitude_prune",
    "magnitude_prune_svd",
)
"""Ways in which PEFT combines several adapters into one."""
