"""What a case is called: the one place that knows how the id of a case is spelled."""

from __future__ import annotations

from dataclasses import dataclass, replace

Scalar = bool | int | float | str
"""A value of a configuration as it can be written on the command line."""


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """A method and the changes to its default configuration."""

    name: str
    overrides: tuple[tuple[str, Scalar], ...] = ()

    def __str__(self) -> str:
        if not self.overrides:
            return self.name
        return f"{self.name}({','.join(f'{key}={value}' for key, value in self.overrides)})"


@dataclass(frozen=True, slots=True)
class Case:
    """One method on one task at one batch size."""

    method: MethodSpec
    task: str
    """A task's name, or several joined by plus signs."""
    batch_size: int
    variant: tuple[tuple[str, Scalar], ...] = ()
    """What a study varies besides: seed, learning rate, ..."""

    @property
    def id(self) -> str:
        """The part of a test's id in brackets: `lora-nli-bs8`, `lora-nli-bs32-seed0-lr3e-05`."""
        return "-".join([f"{self.method}-{self.group}", *(f"{name}{value}" for name, value in self.variant)])

    def with_variant(self, **variant: Scalar) -> Case:
        """Return the same case with what a study varies."""
        return replace(self, variant=tuple(variant.items()))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of its tasks."""
        return tuple(self.task.split("+"))

    @property
    def group(self) -> str:
        """Cases of one group share their batches and their reference."""
        return f"{self.task}-bs{self.batch_size}"
