"""Mutates real files of every kind, reads them with each of their readers, and counts the outcomes.

    python -m tools.fuzz --cases 10000 --seed 1 --keep found

A case depends only on the seed and its number, so that `--first 4711 --cases 1` runs it again.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Final

from tools.fuzz_mutations import mutated
from tools.fuzz_specimens import Specimen, WrongError, specimens

from peftbench.errors import UserError

HANG_S: Final = 5.0
"""Processor time after which a case counts as a hang."""
MEMORY_BYTES: Final = 1_000_000_000
"""Most memory that one case may add to the peak of the process."""
BAD: Final = ("wrongly accepted", "traceback", "hang", "memory")
OUTCOMES: Final = ("read", "refused in one line", *BAD)


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of one case."""

    number: int
    kind: str
    outcome: str
    """One of OUTCOMES."""
    data: bytes
    told: str = ""


class HangError(Exception):
    """A case took too long."""


@contextmanager
def _limited() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fuzz(cases: Sequence[int], seed: int, only: str = "") -> Iterator[Found]:
    """Run cases by their numbers, and yield the outcome of each."""
    with tempfile.TemporaryDirectory(prefix="peftbench-fuzz-") as name:
        kinds = [specimen for specimen in specimens(Path(name)) if only in specimen.kind]
        for number in cases:
            random = Random(f"{seed} {number}")
            specimen = kinds[number % len(kinds)]
            yield _try(number, specimen, mutated(specimen.data, random), Path(name) / "case")


def _try(number: int, specimen: Specimen, data: bytes, folder: Path) -> Found:
    shutil.rmtree(folder, ignore_errors=True)
    path = folder / specimen.name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    peak_bytes = _peak_bytes()
    told = ""
    try:
        with _limited(), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # of NumPy: numbers that no measurement yields
            outcome = "read" if specimen.read(path) else "refused in one line"
    except WrongError as error:
        outcome, told = "wrongly accepted", str(error)
    except UserError as error:
        outcome, told = "wrongly accepted", f"written, and then refused: {error}"
    except HangError:
        outcome, told = "hang", traceback.format_exc()
    except BaseException:
        if isinstance(sys.exception(), KeyboardInterrupt):
            raise
        outcome, told = "traceback", traceback.format_exc()
    if _peak_bytes() - peak_bytes > MEMORY_BYTES:
        outcome, told = "memory", f"{(_peak_bytes() - peak_bytes) / 1e6:.0f} MB"
    return Found(number, specimen.kind, outcome, data, told)


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def table(found: Counter[tuple[str, str]]) -> list[str]:
    """Return the counts, with a line for each kind of file."""
    kinds = dict.fromkeys(kind for kind, _ in found)
    lines = [f"{'file':14}" + "".join(f"{outcome:>21}" for outcome in OUTCOMES)]
    lines += [f"{kind:14}" + "".join(f"{found[kind, outcome]:21}" for outcome in OUTCOMES) for kind in kinds]
    sums = [sum(found[kind, outcome] for kind in kinds) for outcome in OUTCOMES]
    return [*lines, f"{'all':14}" + "".join(f"{count:21}" for count in sums)]


def main() -> int:
    """Run cases, print the counts, and return 1 if any is bad."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds of files whose name contains this")
    parser.add_argument("--keep", type=Path, help="folder for the inputs of bad cases, and what was raised")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    counts: Counter[tuple[str, str]] = Counter()
    start_s = time.monotonic()
    for found in fuzz(range(arguments.first, arguments.first + arguments.cases), arguments.seed, arguments.only):
        counts[found.kind, found.outcome] += 1
        if found.outcome in BAD:
            last = found.told.strip().splitlines()[-1:] or [""]
            print(f"case {found.number} ({found.kind}): {found.outcome}: {last[0][:200]}", flush=True)
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                (arguments.keep / f"{found.number}-{found.kind}".replace(" ", "-")).write_bytes(found.data)
                (arguments.keep / f"{found.number}.txt").write_text(found.told, encoding="utf-8", errors="replace")
        if found.number % 100 == 0:
            gc.collect()
    wall_s, own_s = time.monotonic() - start_s, time.process_time()
    print(*table(counts), f"{sum(counts.values())} cases in {wall_s:.0f} s ({own_s:.0f} s of processor)", sep="\n")
    return int(any(outcome in BAD for _, outcome in counts))


if __name__ == "__main__":
    sys.exit(main())
