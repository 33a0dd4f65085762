"""What a pytest run asks for: of which catalogue, and which cases of a benchmark function."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from peftbench.config.settings import Settings
    from peftbench.matrix.catalogue import Catalogue
    from peftbench.plugin.marks import CaseMark
    from peftbench.records.ids import Case


def catalogue_of(config: pytest.Config) -> Catalogue:
    """Return what can be benchmarked, with what conftest.py files add."""
    from peftbench.matrix.catalogue import Catalogue

    hook = config.hook
    return Catalogue.load(
        methods=chain.from_iterable(hook.pytest_peftbench_methods()),
        tasks=chain.from_iterable(hook.pytest_peftbench_tasks()),
        models=chain.from_iterable(hook.pytest_peftbench_models()),
        workloads=chain.from_iterable(hook.pytest_peftbench_workloads()),
        anatomies=chain.from_iterable(hook.pytest_peftbench_anatomies()),
    )


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
    select_methods(settings.methods, catalogue.methods)
    for path in (settings.json, settings.diff_json, settings.bencher_json, settings.action_json):
        if path is not None:
            is_stream(path)


def cases_of(mark: CaseMark, settings: Settings, catalogue: Catalogue, *, named: bool = False) -> tuple[Case, ...]:
    """Return the cases of a benchmark function: none if its workload is not selected.

    Args:
        mark: Of the function.
        settings: The user's.
        catalogue: What there is.
        named: Whether the function's file is named on the command line, not only a folder that it is in.
    """
    from peftbench.matrix.cases import ALL, default_tasks, matrix

    workload = catalogue.workload(mark.workload)
    wanted = settings.workloads
    selected = workload.name in wanted or (ALL in wanted and workload.in_all)
    if not (selected if wanted else workload.default or named):
        return ()
    cases = matrix(
        catalogue,
        methods=mark.methods or settings.methods or workload.methods,
        tasks=mark.tasks or settings.tasks or workload.tasks or default_tasks(catalogue, settings.model),
        batch_sizes=mark.batch_sizes or settings.batch_sizes or workload.batch_sizes,
    )
    return tuple(workload.expand(cases, settings))
