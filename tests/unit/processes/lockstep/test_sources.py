"""What is taken from the other work tree, and what a process must not import: one answer to both."""

import socket
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from peftbench.plugin.round_server import RoundServer
from peftbench.processes.lockstep.channel import Channel
from peftbench.processes.lockstep.sources import place


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "repo").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "repo")
    return tmp_path / "repo"


def test_links_are_followed_on_both_sides(checkout: Path) -> None:
    link = checkout.with_name("link")
    for path in (checkout / "src/a.py", link / "src/a.py"):
        for root in (checkout, link):
            assert place(path, root) == Path("src/a.py")
    assert place("src/a.py", checkout) is None
    assert place(checkout.with_name("repository") / "a.py", checkout) is None


@pytest.mark.parametrize("name", ["site-packages", "dist-packages"])
def test_installed_packages_are_no_sources_whatever_interpreter_runs(checkout: Path, name: str) -> None:
    assert place(checkout / f".venv/lib/python3.11/{name}/numpy/__init__.py", checkout) is None


def test_environments_in_a_checkout_are_apart_and_a_checkout_in_an_environment_is_not(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for prefix in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, prefix, str(checkout / prefix))
        assert place(checkout / prefix / "lib/python3.11/json/__init__.py", checkout) is None
    for outer in (checkout, checkout.parent):
        monkeypatch.setattr(sys, "prefix", str(outer))
        assert place(checkout / "src/a.py", checkout) == Path("src/a.py")


def test_a_process_may_import_from_its_own_work_tree_in_the_other_checkout(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worktree = checkout.with_name("link") / ".cache/worktrees/one"
    assert stray(worktree / "src/a.py", checkout, worktree, monkeypatch) == ""
    assert stray(checkout / ".venv/lib/site-packages/a.py", checkout, worktree, monkeypatch) == ""
    assert stray(checkout / "src/a.py", checkout, worktree, monkeypatch) == f"zz_module ({checkout}/src/a.py)"


def stray(file: Path, avoid: Path, worktree: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a child says that has imported a file."""
    module = ModuleType("zz_module")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "zz_module", module)
    ours, theirs = map(Channel, socket.socketpair())
    item = SimpleNamespace(nodeid="one", config=SimpleNamespace(hook=SimpleNamespace(pytest_runtest_protocol=dict)))
    session: Any = SimpleNamespace(items=[item])
    bench: Any = SimpleNamespace(identity=dict, records={}, id_of=str)
    child = threading.Thread(
        target=RoundServer(theirs, avoid=str(avoid), worktree=str(worktree)).serve, args=(session, bench)
    )
    child.start()
    ours.receive()
    answer = ours.ask({"do": "case", "node": "one"})
    ours.close()
    child.join()
    return str(answer["stray"])
