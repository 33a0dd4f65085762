"""How a round is executed: as written, compiled, or as a replayed CUDA graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self, cast

from peftbench.config.choices import EXECUTIONS
from peftbench.errors import UserError, unknown

if TYPE_CHECKING:
    import torch

Mode = Literal["eager", "compile", "graph"]

_WITH_GRAPHS: Final = ("reduce-overhead", "max-autotune")
"""Modes of torch.compile that make CUDA graphs on a CUDA device."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How the rounds of a run are executed."""

    mode: Mode = "eager"
    compile_mode: str = ""
    """Mode of torch.compile, such as `max-autotune`; empty for its default."""

    @classmethod
    def of(cls, text: str) -> Self:
        """Read the value of `--peftbench-execution`.

        Raises:
            UserError: there is no such execution.
        """
        if text not in EXECUTIONS:
            raise unknown("execution", text, EXECUTIONS)
        mode, _, compile_mode = text.partition(":")
        return cls(cast("Mode", mode), compile_mode)

    def require(self, device: torch.device) -> None:
        """Check that `device` can execute rounds in this way.

        Raises:
            UserError: it cannot; names the option, and what to do.
        """
        if device.type == "cuda":
            return
        if self.captures:
            raise UserError(
                f"--peftbench-execution=graph replays CUDA graphs, and the device is {device}; give eager or compile"
            )
        if self.compile_mode == "reduce-overhead":
            raise UserError(
                f"--peftbench-execution=compile:reduce-overhead makes CUDA graphs, and the device is {device}; "
                "give compile"
            )

    @property
    def compiles(self) -> bool:
        """Whether models are compiled with torch.compile."""
        return self.mode == "compile"

    @property
    def captures(self) -> bool:
        """Whether a whole round is captured in a CUDA graph, and replayed."""
        return self.mode == "graph"

    @property
    def compiles_to_graphs(self) -> bool:
        """Whether torch.compile makes CUDA graphs of the parts that it compiles, on a CUDA device."""
        return self.compile_mode in _WITH_GRAPHS
