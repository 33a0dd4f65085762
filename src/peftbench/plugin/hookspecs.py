"""Hooks by which a conftest.py or a plugin adds to the catalogue. Each returns an iterable."""

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
    """Return methods to add to the catalogue. Called once, when the catalogue is first used."""


def pytest_peftbench_tasks() -> Iterable[Task]:  # type: ignore[empty-body]
    """Return tasks to add to the catalogue. Called once, when the catalogue is first used."""


def pytest_peftbench_models() -> Iterable[Preset]:  # type: ignore[empty-body]
    """Return model presets to add to the catalogue. Called once, when the catalogue is first used."""


def pytest_peftbench_workloads() -> Iterable[Workload]:  # type: ignore[empty-body]
    """Return workloads to add to the catalogue. Called once, when the catalogue is first used."""


def pytest_peftbench_anatomies() -> Iterable[Anatomy]:  # type: ignore[empty-body]
    """Return anatomies of models, which tell methods where to put their modules. Called like the hooks above."""
