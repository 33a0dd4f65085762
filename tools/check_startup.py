"""Measures what the plugin costs when nothing is measured. Prints two processor times, medians of several runs.

    python tools/check_startup.py [--runs 5]

The first is that of collecting 10,000 cases (aim: 5 s, without importing torch). The second is the time that the
installed plugin adds to the start of pytest in a project without benchmarks (aim: 50 ms). It is the difference of
alternated runs with and without the plugin.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BENCH = """
from peftbench import bench

@bench("train_step")
def train_step(peft_case):
    peft_case.measure()
"""
CONFTEST = """
import sys

def pytest_sessionfinish():
    print("torch imported:", "torch" in sys.modules)
"""
BATCH_SIZES = 139
"""Number of batch sizes. With 12 methods and 6 tasks there are 10,008 cases."""


def seconds(folder: Path, *arguments: str) -> tuple[float, str]:
    """Run pytest in `folder`; return its processor time in seconds, and its output.

    Other work on the machine changes processor time less than wall time.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    start_s = _children_s()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    return _children_s() - start_s, done.stdout


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py test_*.py\n")
        (folder / "bench_all.py").write_text(BENCH)
        (folder / "conftest.py").write_text(CONFTEST)
        sizes = ",".join(str(size) for size in range(1, BATCH_SIZES + 1))
        collected = [seconds(folder, "--collect-only", f"--peftbench-batch-sizes={sizes}") for _ in range(runs)]
        lines = collected[0][1].splitlines()
        print(lines[-1], "|", next(line for line in lines if line.startswith("torch imported")))
        print(f"collecting: {statistics.median(time_s for time_s, _ in collected):.2f} s of processor time")
        (folder / "bench_all.py").unlink()
        (folder / "conftest.py").unlink()
        (folder / "test_none.py").write_text("def test_nothing():\n    pass\n")
        pairs = [
            (seconds(folder)[0], seconds(folder, "-p", "no:peftbench", "-p", "no:peftbench.plugin")[0])
            for _ in range(3 * runs)
        ]
        cost_s = statistics.median(with_it - without for with_it, without in pairs)
        print(f"start of a project without benchmarks: {1e3 * cost_s:+.0f} ms on top of {1e3 * pairs[0][1]:.0f} ms")


if __name__ == "__main__":
    main()
