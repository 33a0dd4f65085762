"""What a pytest run asks for: of which catalogue, and which cases of a benchmark function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Final

from peftbench.config.places import is_path
from peftbench.errors import UserError

if TYPE_CHECKING:
    import pluggy
    import pytest

    from peftbench.config.settings import Settings
    from peftbench.matrix.catalogue import Catalogue
    from peftbench.plugin.marks import CaseMark
    from peftbench.records.ids import Case
    from peftbench.records.record import Record


def catalogue_of(config: pytest.Config, words: Sequence[str], *, lenient: bool) -> Catalogue:
    """Return what can be benchmarked, with what conftest.py files add and the folders of adapters that words name.

    Args:
        config: Configuration of pytest.
        words: The methods that the user wrote.
        lenient: Whether folders that cannot be read are passed over.

    Raises:
        UserError: a hook of a conftest.py raises an error or adds something else; or a folder does not exist, or holds
            no adapter that can be read.
    """
    from peftbench.matrix.catalogue import Catalogue

    hook = config.hook
    catalogue = Catalogue.load(
        methods=_added(hook.pytest_peftbench_methods),
        tasks=_added(hook.pytest_peftbench_tasks),
        models=_added(hook.pytest_peftbench_models),
        workloads=_added(hook.pytest_peftbench_workloads),
        anatomies=_added(hook.pytest_peftbench_anatomies),
    )
    return with_folders(catalogue, words, lenient=lenient)


def _added(hook: pluggy.HookCaller) -> list[Any]:
    """Return the definitions that implementations of a hook return; UserError if one of them raises an error."""
    from peftbench.matrix.catalogue import unfolded

    try:
        return [definition for added in hook() for definition in unfolded(added)]
    except Exception as error:
        frames = [frame for frame in extract_tb(error.__traceback__) if frame.name == hook.name]
        place = f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""
        raise UserError(f"{hook.name}: {place}{type(error).__name__}: {error}; mend that hook") from error


def with_folders(catalogue: Catalogue, words: Sequence[str], *, lenient: bool = False) -> Catalogue:
    """Return a catalogue with the folders of adapters that words name; without such it is the same, and no import."""
    if not any(is_path(word) and word not in catalogue.folders for word in words):
        return catalogue
    from peftbench.matrix import folders

    return folders.with_folders(catalogue, words, lenient=lenient)


def known(settings: Settings, catalogue: Catalogue) -> Settings:
    """Return the settings without methods, tasks and workloads that are not in the catalogue."""
    from peftbench.matrix import cases

    return cases.known(settings, catalogue)


def unchanged(records: Mapping[str, Record], catalogue: Catalogue) -> Mapping[str, Record]:
    """Return finished records without those of adapters' folders whose content is another one now, or is not told."""

    def is_unchanged(record: Record) -> bool:
        method = catalogue.methods.get(record.method.partition("(")[0])
        return method is None or not method.identity or method.identity in record.warnings

    return {key: record for key, record in records.items() if is_unchanged(record)}


def refuse_impossible(settings: Settings, catalogue: Catalogue) -> None:
    """Refuse names that do not exist, settings that exclude each other, and files that cannot be written.

    Raises:
        UserError: says which, and what is known.
    """
    from peftbench.devices.precision import Precision
    from peftbench.matrix.cases import select, select_methods
    from peftbench.records.fileio import is_stream

    Precision.of(settings)
    select("workload", settings.workloads, catalogue.workloads)
    select("task", settings.tasks, catalogue.tasks)
    select_methods(settings.methods, catalogue.methods, catalogue.folders)
    for path in (settings.json, settings.diff_json, settings.bencher_json, settings.action_json, settings.html):
        if path is not None:
            is_stream(path)
    if settings.html is not None:
        from peftbench.pages.page import require_packages

        require_packages()


DEEPEST: Final = 100
"""Most brackets within brackets of `-k` and `-m`. pytest reads some 200 before Python's stack ends."""


def refuse_deep(option: str, expression: str) -> None:
    """Raise UserError for an expression that pytest would end at with an internal error."""
    steps = accumulate({"(": 1, ")": -1}.get(character, 0) for character in expression)
    if (deepest := max(steps, default=0)) > DEEPEST:
        raise UserError(f"{option}: brackets stand {deepest} deep in each other: write at most {DEEPEST}")


def cases_of(mark: CaseMark, settings: Settings, catalogue: Catalogue, *, named: bool = False) -> tuple[Case, ...]:
    """Return the cases of a benchmark function: none if its workload is not selected.

    Args:
        mark: Of the function.
        settings: The user's.
        catalogue: What there is.
        named: Whether the function's file is named on the command line, not only a folder that it is in.
    """
    from peftbench.devices.presence import on_cuda
    from peftbench.matrix.cases import ALL, default_tasks, matrix

    workload = catalogue.workload(mark.workload)
    wanted = settings.workloads
    by_name = workload.name in wanted
    if not (by_name or (ALL in wanted and workload.in_all) if wanted else workload.default or named):
        return ()
    cuda = on_cuda(settings.device)
    few, batch_sizes = (workload.cuda_tasks, workload.cuda_batch_sizes) if cuda else ((), ())
    cases = matrix(
        catalogue,
        methods=mark.methods or settings.methods or workload.methods,
        tasks=mark.tasks or settings.tasks or workload.tasks or default_tasks(catalogue, settings.model, few),
        batch_sizes=mark.batch_sizes or settings.batch_sizes or batch_sizes or workload.batch_sizes,
    )
    if wanted and not by_name:  # what is named and cannot be done gets a row; what `all` includes is what can be done
        cases = tuple(case for case in cases if all(workload.can_do(catalogue.task(name)) for name in case.tasks))
    return with_own_rates(workload.expand(cases, settings), settings, catalogue)


def with_own_rates(cases: Iterable[Case], settings: Settings, catalogue: Catalogue) -> tuple[Case, ...]:
    """Return cases whose method says how fast it is trained with that learning rate, unless rates were asked for."""
    if settings.is_asked("learning_rates"):
        return tuple(cases)
    found: dict[Case, None] = {}
    for case in cases:
        method = catalogue.methods.get(case.method.name)
        own = method.learning_rate if method else None
        varied = dict(case.variant)
        found[replace(case, variant=tuple({**varied, "lr": own}.items())) if own and "lr" in varied else case] = None
    return tuple(found)
