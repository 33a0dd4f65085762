"""Hooks by which a conftest.py or a plugin adds to what can be benchmarked; each returns an iterable."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from peftbench.methods.anatomy import Anatomy
    from peftbench.methods.base import Method
    from peftbench.models.presets import Preset
    from peftbench.tasks.base import Task
    from peftbench.workloads.base import Workload


def pytest_peftbench_methods() -> Iterable[Method]:  # type: ignore[empty-body]
    """Called once, before collection, for methods to add."""


def pytest_peftbench_tasks() -> Iterable[Task]:  # type: ignore[empty-body]
    """Called once, before collection, for tasks to add."""


def pytest_peftbench_models() -> Iterable[Preset]:  # type: ignore[empty-body]
    """Called once, before collection, for model presets to add."""


def pytest_peftbench_workloads() -> Iterable[Workload]:  # type: ignore[empty-body]
    """Called once, before collection, for workloads to add."""


def pytest_peftbench_anatomies() -> Iterable[Anatomy]:  # type: ignore[empty-body]
    """Called once, before collection, for anatomies of models to add, which methods put their modules in by."""
