"""Which cases a command line asks for: one that it leaves out is not missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import pytest

    from peftbench.cases import Case


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What narrows the cases of a command line; None is everything."""

    deselected: frozenset[str] = frozenset()
    """Ids of cases that `-k`, `-m`, `--deselect` or a shard left out."""
    dropped: frozenset[str] = frozenset()
    """Functions whose workload is not selected."""
    functions: frozenset[str] | None = None
    """Those that were collected, where files or node ids are given."""
    methods: frozenset[str] | None = None
    tasks: frozenset[str] | None = None
    batch_sizes: frozenset[int] | None = None

    @classmethod
    def of(
        cls,
        config: pytest.Config,
        cases: Iterable[Case],
        *,
        selected: Iterable[str],
        deselected: Iterable[str],
        dropped: Iterable[str],
    ) -> Self:
        """Read what narrows from a command line, and from what became of the items.

        Args:
            config: pytest's.
            cases: Those that the options ask for.
            selected: Ids of the cases that are run.
            deselected: Ids of those that are not.
            dropped: Names of functions that have no case.
        """
        asked = tuple(cases)
        files = any("::" in word or word.endswith(".py") for word in config.invocation_params.args)

        def given(name: str) -> bool:
            return config.getoption(f"peftbench_{name}") is not None

        return cls(
            deselected=frozenset(deselected),
            dropped=frozenset(map(_function, dropped)),
            functions=frozenset(map(_function, selected)) if files else None,
            methods=frozenset(str(case.method) for case in asked) if given("methods") else None,
            tasks=frozenset(case.task for case in asked) if given("tasks") else None,
            batch_sizes=frozenset(case.batch_size for case in asked) if given("batch_sizes") else None,
        )

    def covers(self, case_id: str) -> bool:
        """Tell whether a case would be run, did it exist."""
        function, _, parameters = case_id.partition("[")
        return (
            case_id not in self.deselected
            and function not in self.dropped
            and (self.functions is None or function in self.functions)
            and (self.methods is None or any(parameters.startswith(f"{name}-") for name in self.methods))
            and (self.tasks is None or any(f"-{name}-bs" in parameters for name in self.tasks))
            and (self.batch_sizes is None or any(parameters.endswith(f"-bs{size}]") for size in self.batch_sizes))
        )


def _function(case_id: str) -> str:
    return case_id.partition("[")[0]
