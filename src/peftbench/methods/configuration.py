"""A method's configuration: its defaults, changed by the overrides that the user wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from peftbench.errors import PeftbenchError, UnsupportedError, UserError, unknown

if TYPE_CHECKING:
    from peftbench.records.ids import Scalar

C = TypeVar("C")
"""A frozen dataclass whose fields are the names that can be overridden, with their defaults."""

_KINDS: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}


@dataclass(frozen=True, slots=True)
class Configuration(Generic[C]):
    """The values that a method is applied with, and which of them the user gave."""

    method: str
    values: C
    overridden: frozenset[str] = frozenset()

    @classmethod
    def of(cls, method: str, defaults: C, overrides: Mapping[str, Scalar]) -> Configuration[C]:
        """Return `defaults` (a dataclass) with the overrides applied.

        Raises:
            UserError: an override is unknown, or is not of the default's type.
        """
        known = {field.name: type(getattr(defaults, field.name)) for field in fields(defaults)}  # type: ignore[arg-type] # C is a dataclass
        changes: dict[str, Scalar] = {}
        for name, value in overrides.items():
            if name not in known:
                raise unknown(f"override of {method}", name, known)
            try:
                changes[name] = _converted(value, known[name])
            except ValueError:
                raise UserError(f"{method}({name}={value}): must be {_KINDS[known[name]]}") from None
        values: Any = defaults
        return cls(method, replace(values, **changes), frozenset(overrides))

    def refusal(self, name: str, why: str) -> PeftbenchError:
        """Return the error for a value that does not fit the model: the user's mistake only if the user gave it."""
        kind = UserError if name in self.overridden else UnsupportedError
        return kind(f"{self.method}({name}={getattr(self.values, name)}): {why}")

    def require_at_least(self, name: str, least: int) -> int:
        """Return the whole number `name`, which must be `least` or more."""
        value: int = getattr(self.values, name)
        if value < least:
            raise self.refusal(name, f"must be at least {least}")
        return value

    def require_divisor(self, name: str, whole: int, whole_name: str) -> int:
        """Return the whole number `name`, which must divide `whole`."""
        value = self.require_at_least(name, 1)
        if whole % value:
            divisors = ", ".join(str(number) for number in range(1, whole + 1) if whole % number == 0)
            raise self.refusal(name, f"does not divide {whole_name} {whole}; choose one of {divisors}")
        return value


def _converted(value: Scalar, wanted: type) -> Scalar:
    if wanted is str:
        return str(value)
    if wanted is float and type(value) is int:
        value = float(value)
    # Not isinstance: true and false are no whole numbers here.
    if type(value) is not wanted or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(value)
    return value
