from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from peftbench.plugin.conclusion import asks_for_tables, leave_out_tables

CASE = {"name": "train_step", "extra_info": {"peftbench": {"variant": {}}}}
STUDY = {"name": "convergence", "extra_info": {"peftbench": {"variant": {"seed": 0, "lr": 1e-4}}}}
OTHER = {"name": "own", "extra_info": {}}


class Config:
    """A configuration with options, and pytest-benchmark's session."""

    def __init__(self, *arguments: str, addopts: tuple[str, ...] = ()) -> None:
        self.invocation_params = SimpleNamespace(args=arguments)
        self._addopts = list(addopts)
        self.checked = 0
        groups = [("a", [CASE, OTHER]), ("b", [STUDY]), ("c", [CASE])]
        self._benchmarksession = SimpleNamespace(groups=groups, check_regressions=self._check)

    def getini(self, name: str) -> list[str]:
        assert name == "addopts"
        return self._addopts

    def _check(self) -> None:
        self.checked += 1

    def left(self, ours: str | None) -> list[tuple[str, list[str]]]:
        leave_out_tables(self, ours=ours)  # type: ignore[arg-type]
        groups: Any = self._benchmarksession.groups
        return [(name, [one["name"] for one in members]) for name, members in groups]


@pytest.mark.parametrize(
    ("ours", "arguments", "left"),
    [
        (None, (), [("a", ["own"])]),
        (None, ("--benchmark-only", "--benchmark-disable-gc"), [("a", ["own"])]),
        (None, ("--benchmark-columns=min",), [("a", ["train_step", "own"]), ("c", ["train_step"])]),
        ("both", (), [("a", ["train_step", "own"]), ("c", ["train_step"])]),
        ("ours", ("--benchmark-sort", "min"), [("a", ["own"])]),
    ],
)
def test_a_training_is_in_no_table_and_a_case_where_it_is_wanted(
    ours: str | None, arguments: tuple[str, ...], left: list[tuple[str, list[str]]]
) -> None:
    assert Config(*arguments).left(ours) == left


def test_regressions_are_reported_though_no_table_is_left() -> None:
    config = Config()
    config._benchmarksession.groups = [("c", [CASE])]
    assert config.left(None) == []
    assert config.checked == 1


def test_options_count_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    def asks(*arguments: str, addopts: tuple[str, ...] = ()) -> bool:
        return asks_for_tables(Config(*arguments, addopts=addopts))  # type: ignore[arg-type]

    assert asks("--benchmark-json=x.json")
    assert asks("--benchmark-cprofile-top", "3")
    assert asks(addopts=("--benchmark-autosave",))
    assert not asks("--benchmark-skip", "--peftbench-json=x.json")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--benchmark-group-by=func")
    assert asks()
