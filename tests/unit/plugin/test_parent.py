"""The command with which a parent starts its own pytest run again."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peftbench.plugin.parent import pytest_command


@pytest.mark.parametrize(("on_path", "isolated"), [(False, True), (True, False)])
def test_a_child_imports_from_the_present_folder_only_if_its_parent_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, on_path: bool, isolated: bool
) -> None:
    """`pytest` does not look there, `python -m pytest` does. A file named as a library would take its place."""
    monkeypatch.chdir(tmp_path)
    others = [entry for entry in sys.path if entry not in {"", str(Path.cwd())}]
    monkeypatch.setattr(sys, "path", [*([str(tmp_path)] if on_path else []), *others])
    config: Any = SimpleNamespace(invocation_params=SimpleNamespace(args=("benches",), dir=tmp_path))
    arguments = pytest_command(config, None).arguments
    assert arguments[0] == sys.executable
    assert ("-P" in arguments[1 : arguments.index("-m")]) == isolated
    assert arguments[-3:] == ("-m", "pytest", "benches")
