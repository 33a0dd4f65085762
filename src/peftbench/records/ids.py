"""Writes and reads the ids of cases. No other module knows how an id is spelled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

Scalar = bool | int | float | str
"""A value of a configuration that can be written on the command line."""


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
    """Name of a task, or of several tasks as `joint_task` writes them."""
    batch_size: int
    variant: tuple[tuple[str, Scalar], ...] = ()
    """What a study varies in addition: seed, learning rate, ..."""

    @property
    def id(self) -> str:
        """The part of a test's id in brackets: `lora-nli-bs8`, `lora-nli-bs32-seed0-lr3e-05`."""
        return "-".join([f"{self.method}-{self.group}", *(f"{name}{value}" for name, value in self.variant)])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks of the case."""
        return task_names(self.task)

    @property
    def group(self) -> str:
        """Group of the case. Cases of one group share their batches and their reference."""
        return group_name(self.task, self.batch_size)

    def with_variant(self, **variant: Scalar) -> Case:
        """Return the same case with another variant."""
        return replace(self, variant=tuple(variant.items()))

    def varied(self, name: str) -> Scalar:
        """Return the value of `name` in the variant; raises KeyError if the study does not vary it."""
        return dict(self.variant)[name]

    @property
    def seed(self) -> int:
        """The seed of a training."""
        return int(self.varied("seed"))

    @property
    def learning_rate(self) -> float:
        """The learning rate of a training."""
        return float(self.varied("lr"))


@dataclass(frozen=True, slots=True)
class CaseId:
    """The id of a case in a record: `train_step[lora-nli-bs8]`.

    A test may have parameters of its own, before those of the case or after them.
    """

    text: str

    @property
    def test(self) -> str:
        """Name of the test. A node id has file and class before it."""
        return self.text.rpartition("::")[2]

    @property
    def function(self) -> str:
        """Benchmark function: the id before the parameters. A node id includes the file."""
        return self.text.partition("[")[0]

    @property
    def _parameters(self) -> str:
        return self.text.partition("[")[2].removesuffix("]")

    def own_parameters(self, case: str) -> str:
        """Return the parameters that the test has beside its case, `2` of `hidden[lora-nli-bs8-2]`; '' if it has none.

        Args:
            case: Method and group of the case, as in its id: `lora-nli-bs8`. The case must have no variant.
        """
        before, found, after = f"-{self._parameters}-".partition(f"-{case}-")
        return "-".join(filter(None, (before[1:], after[:-1]))) if found else ""

    def method_among(self, names: Iterable[str]) -> str:
        """Return the longest of some names that can be the case's method, or ''; `lora-fa` is not `lora`."""
        parameters = f"-{self._parameters}"
        return next((name for name in sorted(names, key=len, reverse=True) if f"-{name}-" in parameters), "")

    def is_of_task(self, name: str) -> bool:
        """Tell whether the case is of a task."""
        return f"-{name}-bs" in self._parameters

    def is_of_batch_size(self, batch_size: int) -> bool:
        """Tell whether the case is of a batch size."""
        return f"-bs{batch_size}-" in f"{self._parameters}-"


def group_name(task: str, batch_size: int) -> str:
    """Return the part that cases of one task and batch size share in their ids: `nli-bs8`."""
    return f"{task}-bs{batch_size}"


def joint_task(names: Iterable[str]) -> str:
    """Return the name of several tasks together: `nli+ner`."""
    return "+".join(names)


def task_names(task: str) -> tuple[str, ...]:
    """Return the tasks that `joint_task` joined."""
    return tuple(task.split("+"))
