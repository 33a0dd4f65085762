"""What the user asked for: each setting once, for the command line, the ini file and `[tool.peftbench]` alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Self

from peftbench.config.gating import GateSettings
from peftbench.config.measuring import MeasuringSettings
from peftbench.config.options import Option, flag_name, parsed
from peftbench.config.running import RunningSettings
from peftbench.config.studying import StudySettings
from peftbench.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Settings(MeasuringSettings, StudySettings, GateSettings, RunningSettings):
    """Every setting of a run; the field `batch_sizes` is `--peftbench-batch-sizes` and ini `peftbench_batch_sizes`."""

    @classmethod
    def read(cls, *sources: Mapping[str, object]) -> Self:
        """Read the settings from mappings of field name to text (or list, number), the first that has one wins.

        Raises:
            UserError: a value that cannot be read, with what is allowed.
        """
        values: dict[str, Any] = {}
        for name, one in options().items():
            given = [source[name] for source in sources if source.get(name) not in (None, "", [])]
            if given:
                values[name] = parsed(name, one, _joined(given) if one.repeats else given[0])
        settings = cls(**values)
        settings._refuse_contradictions()
        return settings

    def _refuse_contradictions(self) -> None:
        modes = {name: bool(getattr(self, name)) for name in ("record", "gate", "against")}
        given = [flag_name(name) for name, value in modes.items() if value]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)}: give one of them; each says what the launches are for")
        for name in ("resume", "gpus", "launches"):
            if self.against and getattr(self, name):
                raise UserError(f"{flag_name(name)} cannot be combined with {flag_name('against')}")
        for name in ("candidate", "bisect"):
            if getattr(self, name) and not self.against:
                raise UserError(f"{flag_name(name)} needs {flag_name('against')}, which says what is compared with")
        if self.gpus and self.device not in ("auto", "cuda"):
            raise UserError(f"--peftbench-gpus and --peftbench-device={self.device}: give one of them")
        if self.reference == "none" and (self.record or self.gate):
            raise UserError(
                f"{given[0]} needs a reference: times are compared as ratios to it; not --peftbench-reference=none"
            )

    @property
    def delegates(self) -> bool:
        """Whether the cases are measured in processes of their own."""
        return any(getattr(self, name) for name, one in options().items() if one.launches)

    def identity(self, *, studies: bool = False) -> dict[str, object]:
        """Return the settings that change a number, with those that change only studies or without, as JSON types."""
        chosen = {name for name, one in options().items() if one.identity or (studies and one.studies)}
        values = {name: getattr(self, name) for name in options() if name in chosen}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@cache
def options() -> Mapping[str, Option]:
    """Return every option by the name of its field."""
    return MappingProxyType({item.name: item.metadata["option"] for item in dataclasses.fields(Settings)})


def _joined(given: Sequence[object]) -> list[object]:
    """Return what several sources give as one list, the most important source last."""
    return [part for one in reversed(given) for part in (one if isinstance(one, list | tuple) else [one])]
