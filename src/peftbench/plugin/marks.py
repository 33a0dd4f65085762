"""The marker of a benchmark function: `@pytest.mark.peftbench("inference", tasks="nli")`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from peftbench.config.settings import options
from peftbench.errors import UserError, unknown

if TYPE_CHECKING:
    import pytest

NAME: Final = "peftbench"
HELP: Final = (
    'peftbench(workload="train_step", *, methods=None, tasks=None, batch_sizes=None): what a benchmark function that '
    "takes `peft_case` measures; methods, tasks and batch_sizes, written as on the command line, replace the options"
)

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, kw_only=True)
class CaseMark:
    """The arguments of the marker of a benchmark function."""

    workload: str = "train_step"
    methods: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    batch_sizes: tuple[int, ...] | None = None

    @classmethod
    def of(cls, mark: pytest.Mark | None) -> Self:
        """Read a marker; without one, return the defaults.

        Raises:
            UserError: the marker does not have an argument, or a value cannot be read.
        """
        if mark is None:
            return cls()
        given: dict[str, Any] = dict(zip(["workload"], mark.args, strict=False), **mark.kwargs)
        known = [item.name for item in fields(cls)]
        if len(mark.args) > 1:
            raise UserError(f"marker {NAME}: takes one positional argument (the workload), got {len(mark.args)}")
        for name in given:
            if name not in known:
                raise unknown(f"argument of marker {NAME}:", name, known)
        return cls(**{name: _read(name, value) for name, value in given.items()})


def bench(workload: str, **narrowed: object) -> Callable[[F], F]:
    """Return a decorator that marks a function as a benchmark. pytest collects it whatever its name is.

    Args:
        workload: Name of a workload.
        narrowed: `methods`, `tasks` and `batch_sizes`, which replace the options as in the marker.
    """
    import pytest

    def mark(function: F) -> F:
        vars(function)["__test__"] = True
        pytest.mark.peftbench(workload, **narrowed)(function)
        return function

    return mark


def _read(name: str, value: object) -> Any:  # noqa: ANN401 - what the option reads
    if name == "workload":
        return value
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    try:
        return options()[name].parse(text)
    except ValueError as error:
        raise UserError(f"marker {NAME}: {name}={value!r}: {error}") from None
