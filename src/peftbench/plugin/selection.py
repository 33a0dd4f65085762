"""Tells which cases a command line asks for. Other cases of a baseline do not count as missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from peftbench.matrix.cases import select, select_methods
from peftbench.records.ids import CaseId

if TYPE_CHECKING:
    import pytest

    from peftbench.config.settings import Settings
    from peftbench.matrix.catalogue import Catalogue


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The restrictions of a command line. None stands for no restriction."""

    run: frozenset[str] = frozenset()
    """Ids of the cases that are run."""
    deselected: frozenset[str] = frozenset()
    """Ids of cases that `-k`, `-m`, `--deselect` or a shard left out."""
    dropped: frozenset[str] = frozenset()
    """Names of functions whose workload is not selected."""
    functions: frozenset[str] | None = None
    """Functions that were collected, if files or node ids are given.

    Functions of which only single cases are named, or selected by `--lf`, are not among them.
    """
    methods: frozenset[str] | None = None
    known_methods: frozenset[str] = frozenset()
    """Names of all methods, which tell `lora-fa-nli-bs8` from `lora-nli-bs8`."""
    tasks: frozenset[str] | None = None
    batch_sizes: frozenset[int] | None = None

    @classmethod
    def of(
        cls,
        config: pytest.Config,
        settings: Settings,
        catalogue: Catalogue,
        *,
        run: Iterable[str],
        deselected: Iterable[str],
        dropped: Iterable[str],
    ) -> Self:
        """Return the restrictions of a command line, and of the collected items.

        Args:
            config: Configuration of pytest.
            settings: Settings of the user.
            catalogue: All methods and tasks.
            run: Ids of the cases that are run.
            deselected: Ids of the cases that are deselected.
            dropped: Names of functions that have no case.
        """
        ids, words = frozenset(run), config.invocation_params.args
        files = any("::" in word or word.endswith(".py") for word in words)
        single = frozenset(_test(word) for word in words if "::" in word and word.endswith("]"))
        alone = ids if getattr(config.option, "lf", False) else frozenset(id_ for id_ in ids if _test(id_) in single)

        def given(name: str) -> bool:
            return config.getoption(f"peftbench_{name}") is not None

        return cls(
            run=ids,
            deselected=frozenset(deselected),
            dropped=frozenset(_function(name) for name in dropped),
            functions=frozenset(_function(name) for name in ids - alone) if files or alone else None,
            methods=frozenset(map(str, select_methods(settings.methods, catalogue.methods, catalogue.folders)))
            if given("methods")
            else None,
            known_methods=frozenset(catalogue.methods),
            tasks=frozenset(select("task", settings.tasks, catalogue.tasks)) if given("tasks") else None,
            batch_sizes=frozenset(settings.batch_sizes) if given("batch_sizes") else None,
        )

    def covers(self, case_id: str) -> bool:
        """Tell whether a case is run, or would be run if it existed."""
        case = CaseId(case_id)
        return case_id in self.run or (
            case_id not in self.deselected
            and case.function not in self.dropped
            and (self.functions is None or case.function in self.functions)
            and (self.methods is None or case.method_among(self.known_methods | self.methods) in self.methods)
            and (self.tasks is None or any(map(case.is_of_task, self.tasks)))
            and (self.batch_sizes is None or any(map(case.is_of_batch_size, self.batch_sizes)))
        )


def _test(text: str) -> str:
    return CaseId(text).test


def _function(text: str) -> str:
    return CaseId(text).function
