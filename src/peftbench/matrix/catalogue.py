"""The catalogue: methods, tasks, model presets, workloads and anatomies, which are found through entry points.

The built-in ones are entry points, too. They are listed here, so that a checkout that is not installed has them.
Loading the catalogue imports no torch, since definitions import what they need when they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar, cast

from peftbench.errors import UserError, unknown

if TYPE_CHECKING:
    from peftbench.methods.anatomy import Anatomy
    from peftbench.methods.base import Method
    from peftbench.models.presets import Preset
    from peftbench.tasks.base import Task
    from peftbench.workloads.base import Workload

BUILT_IN: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "peftbench.methods": (
            "peftbench.methods.basic:METHODS",
            "peftbench.methods.paper.bottleneck:METHODS",
            "peftbench.methods.paper.prefix:METHODS",
            "peftbench.methods.paper.adapter_drop:METHODS",
            "peftbench.methods.paper.fusion:METHODS",
            "peftbench.methods.paper.multi_task:METHODS",
            "peftbench.methods.peft:METHODS",
            "peftbench.methods.peft.excluded:METHODS",
        ),
        "peftbench.tasks": (
            "peftbench.tasks.classification:TASKS",
            "peftbench.tasks.tokens:TASKS",
            "peftbench.tasks.span:TASKS",
            "peftbench.tasks.choice:TASKS",
            "peftbench.tasks.causal:TASKS",
        ),
        "peftbench.models": ("peftbench.models.presets:PRESETS", "peftbench.models.decoders:PRESETS"),
        "peftbench.anatomies": ("peftbench.methods.paper.anatomies:ALL",),
        "peftbench.workloads": (
            "peftbench.workloads.step:WORKLOADS",
            "peftbench.workloads.lifecycle:WORKLOADS",
            "peftbench.workloads.generation.rounds:WORKLOADS",
            "peftbench.studies.training.convergence:WORKLOADS",
            "peftbench.studies.training.multitask:WORKLOADS",
            "peftbench.studies.deployment.study:WORKLOADS",
            "peftbench.studies.merging.study:WORKLOADS",
        ),
    }
)
"""Entry-point group -> objects, each a named definition or an iterable of them, in the order of listings."""


KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "peftbench.methods": "peftbench.methods.base:Method",
        "peftbench.tasks": "peftbench.tasks.base:Task",
        "peftbench.models": "peftbench.models.presets:Preset",
        "peftbench.anatomies": "peftbench.methods.anatomy:Anatomy",
        "peftbench.workloads": "peftbench.workloads.base:Benchmark",
    }
)
"""Entry-point group -> the class of its definitions."""


class Named(Protocol):
    """A definition that a catalogue can hold."""

    @property
    def name(self) -> str:
        """The name by which users refer to it."""


T = TypeVar("T", bound=Named)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All known methods, tasks, model presets and workloads, by name, in a stable order."""

    methods: Mapping[str, Method]
    """Methods that need a model's anatomy have been given all known anatomies."""
    tasks: Mapping[str, Task]
    models: Mapping[str, Preset]
    workloads: Mapping[str, Workload]
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """A path or a pattern that a user wrote -> the names of the methods that its folders are."""

    @classmethod
    def load(
        cls,
        *,
        methods: Iterable[Method] = (),
        tasks: Iterable[Task] = (),
        models: Iterable[Preset] = (),
        workloads: Iterable[Workload] = (),
        anatomies: Iterable[Anatomy] = (),
    ) -> Self:
        """Collect the built-in definitions, those of installed packages, and the given ones, in this order.

        Raises:
            UserError: an entry point cannot be loaded, two definitions share a name, or one is of another class.
        """
        known = _collect("peftbench.anatomies", anatomies)
        return cls(
            methods=MappingProxyType(
                {name: method.with_anatomies(known) for name, method in _collect("peftbench.methods", methods).items()}
            ),
            tasks=_collect("peftbench.tasks", tasks),
            models=_collect("peftbench.models", models),
            workloads=_collect("peftbench.workloads", workloads),
        )

    def method(self, name: str) -> Method:
        """Return a method by name.

        Raises:
            UserError: there is no such method; names the nearest one.
        """
        return _get("method", name, self.methods)

    def task(self, name: str) -> Task:
        """Return a task by name.

        Raises:
            UserError: there is no such task; names the nearest one.
        """
        return _get("task", name, self.tasks)

    def workload(self, name: str) -> Workload:
        """Return a workload by name.

        Raises:
            UserError: there is no such workload; names the nearest one.
        """
        return _get("workload", name, self.workloads)


def _get(kind: str, name: str, known: Mapping[str, T]) -> T:
    try:
        return known[name]
    except KeyError:
        raise unknown(kind, name, known) from None


def _collect(group: str, given: Iterable[T]) -> Mapping[str, T]:
    found: dict[str, T] = {}
    origin: dict[str, str] = {}
    kind = EntryPoint(name=group, value=KINDS[group], group=group).load()
    for source, definition in _definitions(group, given):
        if not isinstance(definition, kind):
            raise UserError(f"{group}: {source} adds {definition!r}, which is no instance of {kind.__name__}")
        if definition.name in found:
            first = origin[definition.name]
            raise UserError(f"{group}: {definition.name!r} is defined twice, by {first} and by {source}; rename one")
        found[definition.name] = cast("T", definition)
        origin[definition.name] = source
    return MappingProxyType(found)


def unfolded(added: Any) -> list[Any]:  # noqa: ANN401 - what others add is checked afterwards
    """Return what an entry point or a hook adds as a list: one definition, or an iterable of them."""
    return list(added) if isinstance(added, Iterable) and not isinstance(added, str) else [added]


def _definitions(group: str, given: Iterable[T]) -> Iterator[tuple[str, Named]]:
    built_in = [EntryPoint(name=value, value=value, group=group) for value in BUILT_IN[group]]
    for point in (*built_in, *sorted(entry_points(group=group), key=lambda point: point.name)):
        try:
            loaded = point.load()
        except Exception as error:
            raise UserError(
                f"entry point {point.name!r} of {group} ({point.value}) cannot be loaded: "
                f"{type(error).__name__}: {error}; mend or uninstall that package"
            ) from error
        for definition in unfolded(loaded):
            yield point.value, definition
    for definition in given:
        yield "conftest.py", definition
