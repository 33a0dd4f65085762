import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from peftbench.processes.launches.orphan import is_orphan


def test_an_orphan_is_known_by_the_id_of_who_started_it() -> None:
    assert not is_orphan(os.getppid())
    assert not is_orphan(0)
    assert not is_orphan(os.getpid())  # a test plays the child in its own process
    assert is_orphan(2**22 + 1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child looks between cases")
def test_a_child_that_hangs_ends_with_its_parent(tmp_path: Path) -> None:
    child = (
        "import os, sys, time; from peftbench.processes.launches.orphan import end_with_parent\n"
        "end_with_parent(os.getppid()); open('ready', 'w').write(str(os.getpid())); time.sleep(600)"
    )
    parent = (
        "import os, signal, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "while not (os.path.exists('ready') and open('ready').read()): time.sleep(0.01)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", parent], cwd=tmp_path, check=False)
    assert ended.returncode == -signal.SIGKILL
    pid = int((tmp_path / "ready").read_text())
    if psutil.pid_exists(pid):
        psutil.Process(pid).wait(timeout=60)
