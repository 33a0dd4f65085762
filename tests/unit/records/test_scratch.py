"""Temporary folders: gone at the end, swept where a process was killed, and left alone where they are in use."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from filelock import FileLock

from peftbench.records.scratch import scratch_folder, sweep


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_empty_and_gone_at_the_end(temporary: Path) -> None:
    with scratch_folder() as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").write_text("x")
    assert list(temporary.iterdir()) == []
    with pytest.raises(ValueError, match="why"), scratch_folder():
        raise ValueError("why")
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(temporary: Path) -> None:
    code = (
        "import os, signal; from peftbench.records.scratch import scratch_folder\n"
        "with scratch_folder() as folder:\n"
        "    (folder / 'weights').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(temporary)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = temporary.iterdir()
    with scratch_folder() as folder:
        assert sweep() == 1
        assert not left.exists()
        assert folder.is_dir()
        assert sweep() == 0
    assert list(temporary.iterdir()) == []


def test_sweeping_never_waits_for_a_folder_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def asleep(_seconds: float) -> None:
        raise AssertionError("waited")

    monkeypatch.setattr(time, "sleep", asleep)
    with scratch_folder():
        assert sweep() == 0


def test_only_what_is_ours_is_swept(temporary: Path) -> None:
    (temporary / "peftbench-mine").mkdir()
    (temporary / "peftbench-mine" / "notes").write_text("x")
    (temporary / "peftbench-file").write_text("x")
    target = temporary / "elsewhere"
    target.mkdir()
    (target / "owner.lock").touch()
    (temporary / "peftbench-link").symlink_to(target)
    assert sweep() == 0
    assert (temporary / "peftbench-mine" / "notes").exists()
    assert target.is_dir()


def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = FileLock.acquire
    tried: list[Path] = []

    def late(lock: FileLock) -> object:
        tried.append(Path(lock.lock_file).parent)
        if len(tried) == 1:
            tried[0].rmdir()
            raise FileNotFoundError(lock.lock_file)
        return acquire(lock)

    monkeypatch.setattr(FileLock, "acquire", late)
    with scratch_folder() as folder:
        assert folder.parent == tried[1] != tried[0]
    assert list(temporary.iterdir()) == []
