import atexit
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pluggy
import pytest

from peftbench.errors import UserError
from peftbench.processes.launches.process import Command
from peftbench.processes.lockstep import overlay, states
from peftbench.processes.lockstep.overlay import python_with, unsatisfied
from peftbench.processes.lockstep.pair import State
from peftbench.processes.lockstep.revision import Repository, moved, requirements
from peftbench.processes.lockstep.states import Asked, other_state


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src/code.py").write_text("VALUE = 1\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    return folder


def wheel(folder: Path, name: str, release: str, requires: str = "") -> Path:
    """Write a wheel with one module that knows its version."""
    path = folder / f"{name}-{release}-py3-none-any.whl"
    info = f"{name}-{release}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", f"VERSION = {release!r}\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n{needs}")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


def test_a_revision_is_checked_out_once_and_leaves_the_work_tree_alone(root: Path, tmp_path: Path) -> None:
    (root / "src/code.py").write_text("VALUE = 2\n")
    repository = Repository.of(root / "src")
    assert repository == Repository(root)
    commit = repository.commit("main")
    assert commit == git(root, "rev-parse", "HEAD")
    before = contents(root / ".git")
    folder = repository.checked_out(commit, tmp_path / "cache")
    assert (folder / "src/code.py").read_text() == "VALUE = 1\n"
    assert (root / "src/code.py").read_text() == "VALUE = 2\n"
    assert repository.checked_out(commit, tmp_path / "cache") == folder
    assert contents(root / ".git") == before
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "log", "--format=%H") == commit


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside the checkout"])
def test_a_work_tree_of_an_earlier_clone_or_cut_short_is_made_again(
    root: Path, tmp_path: Path, *, inside: bool
) -> None:
    cache = (root if inside else tmp_path) / "cache"
    repository, commit = Repository(root), git(root, "rev-parse", "HEAD")
    folder = repository.checked_out(commit, cache)
    (folder / "src/code.py").write_text("left over")
    (folder / ".git/objects/info/alternates").write_text("/gone\n")
    assert (repository.checked_out(commit, cache) / "src/code.py").read_text() == "VALUE = 1\n"
    shutil.rmtree(folder / ".git")
    (folder / "src/code.py").unlink()
    assert (repository.checked_out(commit, cache) / "src/code.py").read_text() == "VALUE = 1\n"


@pytest.mark.parametrize("kind", ["work tree", "environment"])
def test_a_folder_in_the_cache_that_somebody_else_made_is_not_cleared(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(overlay, "_make", lambda folder, *_: (folder / "made").touch())

    def made(cache: Path) -> Path:
        if kind == "work tree":
            return Repository(root).checked_out(git(root, "rev-parse", "HEAD"), cache)
        return python_with([], cache).parents[1]

    mine = tmp_path / "mine" / made(tmp_path / "cache").relative_to(tmp_path / "cache")
    mine.mkdir(parents=True)
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"would be cleared, .*; delete it yourself, or set XDG_CACHE_HOME"):
        made(tmp_path / "mine")
    assert (mine / "thesis.tex").read_text() == "years of work"
    (mine / "thesis.tex").unlink()
    made(tmp_path / "mine")
    assert len(list(mine.iterdir())) > 1


def test_a_command_moves_to_the_work_tree_with_its_sources_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path("/elsewhere")
    monkeypatch.setenv("PYTHONPATH", f"{root}/src:/kept")
    command = Command(arguments=(sys.executable, "-m", "pytest", f"--rootdir={root}"), folder=root / "benches")
    path = ["", str(root / "src"), str(root / ".venv/lib/site-packages"), "/usr/lib", str(root / "more")]
    found = moved(command, root, other, path)
    assert found.arguments == (sys.executable, "-m", "pytest", "--rootdir=/elsewhere")
    assert found.folder == Path("/elsewhere/benches")
    assert found.environment == {"PYTHONPATH": "/elsewhere/src:/elsewhere/more:/kept"}


def test_a_command_moves_however_the_checkout_is_spelled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = root.with_name("link")
    link.symlink_to(root)
    monkeypatch.setenv("PYTHONPATH", f"{link}/src:/kept")
    words = (f"-c{link}/pytest.ini", f"--rootdir={link}", f"{link}/benches/x.py::test[{root.name}/y]", "a/x.py", "/z")
    command = Command(arguments=(f"{link}/.venv/bin/python", *words), folder=link / "benches")
    found = moved(command, root, Path("/elsewhere"), [f"{link}/src", f"{link}/.venv/lib/site-packages"])
    assert found.arguments == (
        f"{link}/.venv/bin/python",
        "-c/elsewhere/pytest.ini",
        "--rootdir=/elsewhere",
        f"/elsewhere/benches/x.py::test[{root.name}/y]",
        "a/x.py",
        "/z",
    )
    assert found.folder == Path("/elsewhere/benches")
    assert found.environment == {"PYTHONPATH": "/elsewhere/src:/kept"}


def test_what_a_revision_needs_is_what_is_not_installed_and_what_it_pins_otherwise(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, pin in ((ours, "numpy==2.0"), (theirs, "numpy==1.0  # old")):
        folder.mkdir()
        (folder / "constraints.txt").write_text(f"{pin}\nscipy==1.0\n-r other.txt\n")
    (theirs / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["pytest>=9", "no-such-package"]\n')
    needed = requirements(theirs, ours)
    assert needed == ["pytest>=9", "no-such-package", "numpy==1.0"]
    assert unsatisfied(needed) == ["no-such-package", "numpy==1.0"]
    assert unsatisfied(["no-such-package; python_version < '3'", f"pytest=={version('pytest')}"]) == []
    with pytest.raises(UserError, match="is no requirement"):
        unsatisfied(["=="])


def test_an_environment_has_what_is_asked_for_and_shares_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    wheel(tmp_path, "zz_first", "2.0", requires="zz_second>=3")
    wheel(tmp_path, "zz_second", "3.1")
    python = python_with(["zz_first==2.0"], tmp_path / "cache")
    code = "import zz_first, zz_second, pluggy; print(zz_first.VERSION, zz_second.VERSION, pluggy.__file__)"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said[:2] == ["2.0", "3.1"]
    assert said[2] == pluggy.__file__
    made = python.stat().st_mtime_ns
    assert python_with(["zz_first==2.0"], tmp_path / "cache").stat().st_mtime_ns == made
    with pytest.raises(UserError, match=r"^`.*` failed: .*zz.first"):
        python_with(["zz_first==9"], tmp_path / "cache")


PEFT = "zz @ git+https://example.org/zz"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_an_environment_is_made_again_when_an_address_may_give_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(overlay, "_make", lambda folder, *_: made.append(folder))
    ends: list[Callable[[], object]] = []
    monkeypatch.setattr(atexit, "register", lambda *call, **named: ends.append(partial(*call, **named)))

    def times(*requirements: str) -> int:
        before = len(made)
        for _ in range(2):
            python_with(requirements, tmp_path / "cache")
        return len(made) - before

    file = wheel(tmp_path, "zz", "1.0")
    assert times("zz==1.0", f"yy @ {file.as_uri()}") == 1
    wheel(tmp_path, "zz", "1.0", requires="yy")  # rebuilt at the same path
    assert times("zz==1.0", f"yy @ {file.as_uri()}") == 1
    assert len(set(made)) == 2
    pinned = (
        f"{PEFT}@{COMMIT}",
        f"{PEFT}@{COMMIT}#subdirectory=a",
        f"zz @ https://example.org/zz.whl#sha256={'0' * 64}",
    )
    assert [times(text) for text in pinned] == [1, 1, 1]
    moving = (
        PEFT,
        f"{PEFT}@main",
        f"{PEFT}@{COMMIT[:12]}",
        "zz @ https://example.org/zz.whl",
        f"zz @ {tmp_path.as_uri()}",
    )
    assert [times(text) for text in moving] == [2] * 5
    own = set(made[-2 * len(moving) :])  # never one that another run may be using
    assert len(own) == len(ends) == 2 * len(moving)
    assert all(folder.is_dir() for folder in own)
    for end in ends:
        end()
    assert not any(folder.exists() for folder in own)


def test_a_state_is_a_revision_or_requirements_or_both(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def python_with(packages: list[str], _: Path) -> Path:
        asked.append(packages)
        return Path("/new/python")

    monkeypatch.setattr(states, "python_with", python_with)
    command = Command(arguments=(sys.executable, "-m", "pytest"), folder=root)

    def state(text: str) -> State:
        return other_state(Asked(text), command, root, tmp_path / "cache", lambda _: None)

    plain = state("main")
    assert plain.command.arguments == command.arguments  # nothing to install: this very environment
    assert plain.command.folder != root
    assert plain.avoid == str(root)
    assert plain.worktree == str(plain.command.folder)
    packages = state("zz==1 yy>=2")
    assert packages.command.folder == root
    assert packages.command.arguments[0] == "/new/python"
    assert packages.avoid == packages.worktree == ""
    assert state("main zz==1").command.folder == plain.command.folder
    assert asked == [["zz==1", "yy>=2"], ["zz==1"]]


@pytest.mark.parametrize("text", ["mian", "peft", "=1", "HEAD@{1}", "mian@{10:00}"])
def test_a_name_that_is_neither_is_refused_before_anything_is_installed(text: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        state(text, root, tmp_path)
    assert str(caught.value).startswith(f"--peftbench-against: {text!r} is no revision of {root} (git: ")
    assert str(caught.value).endswith("); nor is it a requirement such as 'peft==0.20.0'")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("--help", "'--help' is an option, and no revision; nor is it a requirement"),
        (" ", "names no state: give a revision, or a requirement"),
        ("main --index-url=http://localhost", "'--index-url=http://localhost' is not a requirement"),
        ("main peft", "'peft' is not a requirement"),
    ],
)
def test_what_is_no_state_is_refused_in_one_line(text: str, problem: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(problem)) as caught:
        state(text, root, tmp_path)
    assert str(caught.value).startswith("--peftbench-against")


def test_credentials_of_an_address_are_neither_shown_nor_stored(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(overlay, "_make", lambda folder, *_: (folder / "made").touch())
    secret = "zz @ https://me:s3cret@example.org/zz.whl?sig=s3cret#sha256=" + "0" * 64
    text = f"yy@{secret.partition('@')[2].strip()}"
    command = Command(arguments=(sys.executable,), folder=root)
    found = other_state(Asked(text), command, root, tmp_path / "cache", said.append)
    assert found.name == f"yy@https://***@example.org/zz.whl?***#sha256={'0' * 64}"
    stored = [path.read_text() for path in (tmp_path / "cache").rglob("peftbench-ready")]
    assert len(said) == len(stored) == 1
    assert "s3cret" not in "".join([*said, *stored, found.name])
    with pytest.raises(UserError) as caught:
        state("nothing https://me:s3cret@example.org", root, tmp_path)
    assert "s3cret" not in str(caught.value)


def state(text: str, root: Path, tmp_path: Path) -> State:
    return other_state(
        Asked(text, "--peftbench-against"),
        Command(arguments=(sys.executable,), folder=root),
        root,
        tmp_path / "cache",
        lambda _: None,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
