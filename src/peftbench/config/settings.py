"""All settings of a run, for the command line, the ini file and `[tool.peftbench]`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from peftbench.config.gating import GateSettings
from peftbench.config.generating import GenerationSettings
from peftbench.config.measuring import MeasuringSettings
from peftbench.config.merging import MergingSettings
from peftbench.config.options import Option, flag_name, parsed
from peftbench.config.running import RunningSettings
from peftbench.config.studying import StudySettings
from peftbench.errors import UserError

if TYPE_CHECKING:
    from peftbench.gate.constants import Rule


@dataclass(frozen=True, kw_only=True)
class Settings(MeasuringSettings, GenerationSettings, StudySettings, MergingSettings, GateSettings, RunningSettings):
    """Every setting of a run.

    The field `batch_sizes` is the option `--peftbench-batch-sizes` and the ini key `peftbench_batch_sizes`.
    """

    @classmethod
    def read(cls, *sources: Mapping[str, object]) -> Self:
        """Read the settings from mappings of field name to text, list or number. The first mapping with a value wins.

        Where none has one, that of the protocol counts, if one is chosen.

        Raises:
            UserError: a value cannot be read, or two settings contradict each other; says what is allowed.
        """
        values: dict[str, Any] = {}
        for name, one in options().items():
            given = [source[name] for source in _with_protocol(sources) if source.get(name) not in (None, "", [])]
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
        if self.diff_json and not (self.gate or self.against):
            needed = f"{flag_name('gate')} or {flag_name('against')}"
            raise UserError(f"{flag_name('diff_json')} needs {needed}: without them nothing is compared")
        if self.gpus and self.device not in ("auto", "cuda"):
            raise UserError(f"--peftbench-gpus and --peftbench-device={self.device}: give one of them")
        if self.reference == "none" and (self.record or self.gate):
            raise UserError(
                f"{given[0]} needs a reference: times are compared as ratios to it; not --peftbench-reference=none"
            )

    @cached_property
    def rule(self) -> Rule:
        """The gate's rule, with the constants that `gate_rule` replaces."""
        from peftbench.gate.constants import Rule

        return Rule.read(",".join(self.gate_rule))

    def is_asked(self, name: str) -> bool:
        """Tell whether a setting has another value than the protocol gives it, or else the default."""
        from peftbench.config.protocols import PROTOCOLS

        named = PROTOCOLS.get(self.protocol or "", {})
        usual = parsed(name, options()[name], named[name]) if name in named else _default(name)
        return bool(getattr(self, name) != usual)

    @property
    def delegates(self) -> bool:
        """Whether the cases are measured in child processes."""
        return any(getattr(self, name) for name, one in options().items() if one.launches)

    def identity(self, *, studies: bool = False) -> dict[str, object]:
        """Return the settings that change measured numbers, as JSON types.

        Args:
            studies: Whether settings that change only studies are included.
        """
        chosen = {name: one for name, one in options().items() if one.identity or (studies and one.studies)}
        values = {name: getattr(self, name) for name in chosen}
        if self.protocol is None:
            values = {key: value for key, value in values.items() if not chosen[key].added or value != _default(key)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@cache
def options() -> Mapping[str, Option]:
    """Return every option by the name of its field."""
    return MappingProxyType({item.name: item.metadata["option"] for item in dataclasses.fields(Settings)})


def _with_protocol(sources: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]:
    name = next((source["protocol"] for source in sources if source.get("protocol")), None)
    if name is None:
        return sources
    from peftbench.config.protocols import PROTOCOLS

    return [*sources, PROTOCOLS.get(str(name), {})]  # an unknown one is refused where its option is read


def _default(name: str) -> object:
    return next(item.default for item in dataclasses.fields(Settings) if item.name == name)


def _joined(given: Sequence[object]) -> list[object]:
    """Return the values of several sources as one list, the strongest source last."""
    return [part for one in reversed(given) for part in (one if isinstance(one, list | tuple) else [one])]
