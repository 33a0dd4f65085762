"""Git in the folder that is meant, whatever a hook has set; its own word where it refuses; one module that calls it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench.errors import UserError
from peftbench.processes.git import GitError, answer, git, without_git
from peftbench.processes.lockstep.revision import Repository
from peftbench.text import masked

ROOT = Path(__file__).parents[3]
WHO = ("-c", "user.name=t", "-c", "user.email=t@example.org")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two commits, the second of which an unfinished one will follow."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for text in ("one\n", "two\n"):
        (folder / "code.py").write_text(text)
        (folder / "other.py").write_text(text)
        git(folder, "add", "-A")
        git(folder, *WHO, "commit", "-qm", text.strip())
    return folder


def test_the_folder_alone_says_which_repository_is_meant(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    named = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True)
    for name in named.stdout.split():
        monkeypatch.setenv(name, str(other / ".git"))
    assert git(root, "rev-parse", "--show-toplevel") == str(root)
    assert not set(named.stdout.split()) & without_git(os.environ).keys()
    assert "PATH" in without_git(os.environ)


def test_git_runs_no_hook_of_the_user(root: Path, tmp_path: Path) -> None:
    for name in ("post-checkout", "post-index-change", "reference-transaction"):
        hook = root / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\n")
        hook.chmod(0o755)
    repository = Repository.of(root)
    repository.checked_out(repository.commit("HEAD~1"), tmp_path / "cache")
    git(root, "update-ref", "refs/heads/more", "HEAD")
    assert not (tmp_path / "hook-ran").exists()


HOOK = """#!{python}
import sys
from pathlib import Path
from peftbench.processes.lockstep.revision import Repository
repository = Repository.of(Path.cwd())
worktree = repository.checked_out(repository.commit("HEAD~1"), Path({cache!r}))
Path({seen!r}).write_text((worktree / "code.py").read_text() + str(repository.root))
"""


@pytest.mark.parametrize("linked", [False, True], ids=["main work tree", "linked work tree"])
@pytest.mark.parametrize("words", [("commit",), ("commit", "-a"), ("commit", "code.py")], ids=" ".join)
def test_a_revision_that_a_pre_commit_hook_asks_for_leaves_index_tree_and_edit_untouched(
    root: Path, tmp_path: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, *, linked: bool
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)]))
    seen, folder = tmp_path / "seen", root
    if linked:
        folder = tmp_path / "linked"
        git(root, "worktree", "add", "-q", "-b", "side", str(folder))
    hook = root / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(HOOK.format(python=sys.executable, cache=str(tmp_path / "cache"), seen=str(seen)))
    hook.chmod(0o755)
    (folder / "code.py").write_text("three\n")
    git(folder, "add", "code.py")
    (folder / "other.py").write_text("an edit\n")
    subprocess.run(["git", *WHO, *words[:1], "-qm", "three", *words[1:]], cwd=folder, check=True)
    assert seen.read_text() == f"one\n{folder}"
    assert git(folder, "show", "HEAD:code.py") == "three"
    assert (folder / "code.py").read_text() == "three\n"
    assert (folder / "other.py").read_text() == "an edit\n"
    everything = "-a" in words
    assert git(folder, "show", "HEAD:other.py") == ("an edit" if everything else "two")
    assert git(folder, "status", "--porcelain") == ("" if everything else "M other.py")  # blanks around are stripped
    assert git(root, "worktree", "list").count("\n") == int(linked)


def test_what_git_refuses_is_said_in_its_own_words(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare, shallow = tmp_path / "bare.git", tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--bare", str(root), str(bare))
    git(tmp_path, "clone", "-q", "--depth=1", root.as_uri(), str(shallow))
    with pytest.raises(GitError, match=r"^this operation must be run in a work tree$"):
        Repository.of(bare)
    with pytest.raises(GitError, match=r"^not a git repository"):
        Repository.of(tmp_path)
    with pytest.raises(
        GitError,
        match=r"^'HEAD~1' is no revision of .*shallow \(git: .+; this clone is shallow: `git fetch --unshallow`",
    ):
        Repository.of(shallow).commit("HEAD~1")
    with pytest.raises(GitError, match=r"^'--help' is no revision of [^;]*$"):
        Repository.of(root).commit("--help")
    assert answer(root, "rev-parse", "--verify", "nothing") is None
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(GitError, match=r"^detected dubious ownership in .* git config --global --add safe.directory"):
        Repository.of(root)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match=r"^there is no git on the PATH$"):
        Repository.of(root)
    with pytest.raises(GitError, match=r"^no such folder"):
        git(tmp_path / "nowhere", "status")


def test_a_revision_of_a_bare_repository_s_linked_tree_and_of_a_shallow_clone_is_checked_out(
    root: Path, tmp_path: Path
) -> None:
    bare, linked, shallow = (tmp_path / name for name in ("bare.git", "linked", "shallow"))
    git(tmp_path, "clone", "-q", "--bare", str(root), str(bare))
    git(bare, "worktree", "add", "-q", "--detach", str(linked), "main")
    git(tmp_path, "clone", "-q", "--depth=1", root.as_uri(), str(shallow))
    for folder in (linked, shallow):
        repository = Repository.of(folder)
        found = repository.checked_out(repository.commit("HEAD"), tmp_path / "cache")
        assert (found / "code.py").read_text() == "two\n"
        assert git(found, "log", "-1", "--format=%s") == "two"


def test_git_is_called_in_one_place() -> None:
    calls = re.compile(r"""["']git["']\s*,""")
    callers = [
        path for part in ("src", "tools") for path in (ROOT / part).rglob("*.py") if calls.search(path.read_text())
    ]
    assert [path.name for path in callers] == ["git.py"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("git+https://me:token@host/x@main", "git+https://***@host/x@main"),
        ("a git+ssh://git@host/x b https://t@h", "a git+ssh://***@host/x b https://***@h"),
        ("https://me:p@ss@host/x", "https://***@host/x"),
        ("https://host/x.whl?sig=abc&se=1#sha256=12", "https://host/x.whl?***#sha256=12"),
        ("https://host/a@b", "https://host/a@b"),
        ("peft==0.20.0, me@example.org?", "peft==0.20.0, me@example.org?"),
    ],
)
def test_credentials_are_masked_and_nothing_else(text: str, shown: str) -> None:
    assert masked(text) == str(UserError(text)) == shown
