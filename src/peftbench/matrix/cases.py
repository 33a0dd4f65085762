"""The matrix of cases: method x task x batch size, from the names that were asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from peftbench.config.places import is_path
from peftbench.errors import UserError, shown, unknown
from peftbench.records.ids import Case, MethodSpec

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.matrix.catalogue import Catalogue
    from peftbench.methods.base import Method
    from peftbench.records.ids import Scalar

DEFAULT_METHODS: Final = (
    "full",
    "head",
    "bitfit",
    "lora",
    "dora",
    "rslora",
    "ia3",
    "adalora",
    "prefix",
    "ln-tuning",
    "vera",
    "oft",
)
"""Methods of the family `default`."""

FAMILIES: Final = ("default", "all")
"""Families besides those that methods name themselves."""

ALL: Final = "all"
"""Word for every task or workload in the catalogue."""

LONGEST: Final = 1000
"""Largest length of a method with its overrides, in characters, since it is part of ids."""

NO_FOLDERS: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})

_SPEC = re.compile(r"(?P<name>[^()]+?)\s*(?:\((?P<overrides>.*)\))?")


def parse_method(text: str) -> MethodSpec:
    """Read `lora` or `lora(r=16,target_modules=all-linear)`.

    Raises:
        UserError: the text is too long, it or an override cannot be read, or an override is given twice.
    """
    if len(text) > LONGEST:
        raise UserError(f"method {shown(text)} cannot be read: it is longer than {LONGEST} characters")
    found = _SPEC.fullmatch(text.strip())
    of_a_path = "; write ? for a bracket or comma of a folder's name" if is_path(text) else ""
    if not found:
        raise UserError(f"method {shown(text)} cannot be read: write `name` or `name(key=value,...)`{of_a_path}")
    overrides = []
    for part in filter(None, (found["overrides"] or "").split(",")):
        key, equals, value = part.partition("=")
        if not (equals and key.strip() and value.strip()):
            raise UserError(
                f"method {shown(text)}: override {shown(part)} cannot be read: write `key=value`{of_a_path}"
            )
        overrides.append((key.strip(), _scalar(value.strip())))
    if len(dict(overrides)) < len(overrides):
        raise UserError(f"method {shown(text)}: an override is given twice")
    return MethodSpec(found["name"], tuple(overrides))


def select_methods(
    texts: Iterable[str], methods: Mapping[str, Method], folders: Mapping[str, Sequence[str]] = NO_FOLDERS
) -> tuple[MethodSpec, ...]:
    """Return the methods for names, names with overrides, families and folders: each once, in the order given.

    Args:
        texts: What the user wrote.
        methods: All methods by name.
        folders: Names of the methods that the folders at a path or a pattern are (`Catalogue.folders`).

    Raises:
        UserError: a text cannot be read, or there is no such method or family.
    """
    chosen: dict[MethodSpec, None] = {}
    families = dict.fromkeys([*FAMILIES, *(family for method in methods.values() for family in method.family.split())])
    for text in texts:
        spec = parse_method(text)
        if spec.name in methods:
            chosen[spec] = None
        elif text in families:
            chosen.update(dict.fromkeys(map(MethodSpec, _family(text, methods))))
        elif spec.name in folders:
            chosen.update(dict.fromkeys(replace(spec, name=name) for name in folders[spec.name]))
        else:
            raise unknown("method", spec.name, [*methods, *families])
    return tuple(chosen)


def select(kind: str, names: Sequence[str], known: Mapping[str, object]) -> tuple[str, ...]:
    """Return `names`, each once. With `all` among them, all known ones are returned.

    Raises:
        UserError: a name is not known.
    """
    for name in names:
        if name not in known and name != ALL:
            raise unknown(kind, name, known)
    return tuple(known) if ALL in names else tuple(dict.fromkeys(names))


def default_tasks(catalogue: Catalogue, model: str, few: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the tasks that are measured if none is named: those that the preset is meant for, a few, or all defaults.

    Args:
        catalogue: The catalogue.
        model: As the user wrote it. Nothing is read of a folder or of the hub.
        few: Tasks that stand for all, where all would take too long. Names that are not in the catalogue are left out.
    """
    preset, known = catalogue.models.get(model), tuple(name for name in few if name in catalogue.tasks)
    return (preset and preset.tasks) or known or tuple(task.name for task in catalogue.tasks.values() if task.default)


def known(settings: Settings, catalogue: Catalogue) -> Settings:
    """Return the settings without methods, tasks and workloads that are not in the catalogue."""
    return replace(
        settings,
        methods=_accepted(settings.methods, lambda name: select_methods([name], catalogue.methods, catalogue.folders)),
        tasks=_accepted(settings.tasks, lambda name: select("task", [name], catalogue.tasks)),
        workloads=_accepted(settings.workloads, lambda name: select("workload", [name], catalogue.workloads)),
    )


def _accepted(names: Sequence[str], choose: Callable[[str], object]) -> tuple[str, ...]:
    def accepted(name: str) -> bool:
        try:
            choose(name)
        except UserError:
            return False
        return True

    return tuple(filter(accepted, names))


def matrix(
    catalogue: Catalogue, *, methods: Sequence[str], tasks: Sequence[str], batch_sizes: Sequence[int]
) -> tuple[Case, ...]:
    """Return every case, ordered by task, then batch size, then method, each in the order given.

    Raises:
        UserError: a name is not known.
    """
    groups = product(select("task", tasks, catalogue.tasks), dict.fromkeys(batch_sizes))
    specs = select_methods(methods, catalogue.methods, catalogue.folders)
    return tuple(Case(spec, task, batch_size) for task, batch_size in groups for spec in specs)


def _family(name: str, methods: Mapping[str, Method]) -> list[str]:
    if name == "default":
        return [method for method in DEFAULT_METHODS if method in methods]
    in_some = ((method.name, method.family.split()) for method in methods.values() if method.family)
    return [method for method, families in in_some if name == "all" or name in families]


def _scalar(text: str) -> Scalar:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
