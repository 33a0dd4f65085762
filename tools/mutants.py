"""Makes small faults in five rooms, one at a time, and counts those that the unit tests of their room see.

    python -m tools.mutants                     # 300 faults, as `make mutants` does
    python -m tools.mutants --seconds 200       # as many as fit; the next call goes on there
    python -m tools.mutants --room gate --seed 7

cosmic-ray makes the faults and keeps the session. A room's places (an operator, a number, a condition, ...) are ranked
by a hash of the seed and of what stands there, so an edit elsewhere leaves the draw as it is. Each fault is made in a
copy of the project, and one process that has imported torch forks for it. A fault that is not seen must stand in
`tools/mutants_equivalent.toml` with the reason why it changes nothing.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import importlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cosmic_ray.work_db import WorkDB
    from cosmic_ray.work_item import MutationSpec, WorkItem, WorkResult

ROOT: Final = Path(__file__).resolve().parents[1]
EQUIVALENT: Final = ROOT / "tools" / "mutants_equivalent.toml"
ROOMS: Final = ("gate", "measure", "claims", "studies/training", "records")
SEED: Final = 19
FAULTS: Final = 300
LEAST_SEEN: Final = 0.92
WARM: Final = ("torch", "transformers", "peft", "datasets", "scipy.stats", "sklearn.metrics", "seqeval.metrics")
"""Imported before the fork: what takes seconds to import, and holds none of the code that is changed."""
MEMORY_BYTES: Final = 6 << 30
"""What a fault may allocate beyond what the process holds before it."""
NO_FAULTS: Final = ("_Eq_Is", "_NotEq_IsNot", "_Eq_IsNot", "_NotEq_Is")
"""`==` made `is`, and back: whether equal texts and numbers are one object is CPython's business."""

_OF_PYTHON: Final = re.compile(r"sys\.version_info >= \((\d+), (\d+)\)$")
"""Condition of code that only some versions of Python run."""


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A fault that changes nothing, and why."""

    module: str
    line: str
    mutated: str
    reason: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is found by: line numbers change with each edit."""
        return (self.module, self.line, self.mutated)


def read_equivalents(file: Path = EQUIVALENT) -> list[Equivalent]:
    """Return the faults that are known to change nothing."""
    return [Equivalent(**entry) for entry in tomllib.loads(file.read_text("utf-8")).get("equivalent", [])]


def stale(entries: Iterable[Equivalent], root: Path = ROOT) -> list[Equivalent]:
    """Return the entries whose line no longer stands in its module."""
    return [entry for entry in entries if entry.line not in _lines(root / "src" / "peftbench" / entry.module)]


def _lines(file: Path) -> set[str]:
    return {line.strip() for line in file.read_text("utf-8").splitlines()} if file.is_file() else set()


# --- the draw


def held_elsewhere(source: str) -> set[int]:
    """Return the offsets (line x 10,000 + column) of what cannot be seen, or is held elsewhere.

    They are types and flags of classes, which mypy and `test_house.py` hold, and what another Python runs.
    """
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        parts = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            parts.append(node)
        if isinstance(node, ast.If) and (version := _OF_PYTHON.match(ast.unparse(node.test))):
            newer = sys.version_info >= (int(version[1]), int(version[2]))
            parts += [node.test, *(node.orelse if newer else node.body)]
        if isinstance(node, ast.ClassDef):
            parts += [flags for flags in node.decorator_list if ast.unparse(flags).startswith("dataclass(")]
            parts += [flag.value for flag in node.keywords]
        for part in filter(None, parts):
            for line in range(part.lineno, part.end_lineno + 1):
                first = part.col_offset if line == part.lineno else 0
                last = part.end_col_offset if line == part.end_lineno else 9999
                found.update(10_000 * line + column for column in range(first, last))
    return found


def rank(*parts: object) -> str:
    """Return a text by which things are drawn: as good as random, and of nothing but what they are."""
    return hashlib.sha256("\x00".join(map(str, parts)).encode()).hexdigest()


def draw(room: str, count: int, seed: int) -> list[WorkItem]:
    """Return `count` faults of a room, at different places."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import use_db

    files = [file.relative_to(ROOT) for file in sorted((ROOT / "src" / "peftbench" / room).rglob("*.py"))]
    with tempfile.TemporaryDirectory() as folder, use_db(Path(folder) / "all.sqlite") as db:
        init(files, db, {})
        items = db.work_items
    by_module: dict[Path, dict[tuple[int, int], list[MutationSpec]]] = {}
    for item in items:
        (fault,) = item.mutations
        by_module.setdefault(fault.module_path, {}).setdefault(fault.start_pos, []).append(fault)
    places = {
        place: faults
        for module, found in sorted(by_module.items())
        for place, faults in _places((ROOT / module).read_text("utf-8"), module, found, seed)
    }
    drawn = (_first_that_compiles(place, places[place]) for place in sorted(places))
    return list(islice(filter(None, drawn), count))


def _places(
    source: str, module: Path, found: dict[tuple[int, int], list[MutationSpec]], seed: int
) -> Iterator[tuple[str, list[MutationSpec]]]:
    """Yield the rank of each place in a module, and the faults that can be made there."""
    held, lines, times = held_elsewhere(source), source.splitlines(), Counter[object]()
    for (row, column), faults in sorted(found.items()):
        fair = [fault for fault in faults if not fault.operator_name.endswith(NO_FAULTS)]
        text = lines[row - 1]
        if 10_000 * row + column in held or not fair or text.startswith("*,", column):  # a bare * is no product
            continue
        stands = (module.name, fair[0].definition_name, text.strip(), column - len(text) + len(text.lstrip()))
        times[stands] += 1
        yield rank(seed, *stands, times[stands]), fair


def _first_that_compiles(place: str, faults: Iterable[MutationSpec]) -> WorkItem | None:
    """Return one of the faults of a place: not each is Python, since `*` in a list of parameters is no operator."""
    from cosmic_ray.work_item import WorkItem

    for fault in sorted(faults, key=lambda fault: rank(place, fault.operator_name, fault.occurrence)):
        try:
            compile(mutant(ROOT, fault), fault.module_path.name, "exec")
        except (SyntaxError, AttributeError):  # the second: cosmic-ray and `except module.Error`
            continue
        return WorkItem.single(rank((ROOT / fault.module_path).read_text("utf-8"), fault), fault)
    return None


def mutant(root: Path, fault: MutationSpec) -> str:
    """Return the source of a module with a fault in it."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    operator = get_operator(fault.operator_name)(**fault.operator_args)
    return str(mutate_code((root / fault.module_path).read_text("utf-8"), operator, fault.occurrence))


# --- one fault


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests of a room made of a fault."""

    seen_by: str
    """The test that failed, or what else ended the tests; "" if none did."""
    seconds: float
    files: dict[str, float]
    """Test file -> seconds of its tests."""


class Watch:
    """A plugin of pytest that remembers the first failure, and the time that each file took."""

    def __init__(self) -> None:
        self.failed = ""
        self.files: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:  # noqa: ANN401
        """Take one phase of one test."""
        file = report.nodeid.partition("::")[0]
        self.files[file] = self.files.get(file, 0.0) + report.duration
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: Any) -> None:  # noqa: ANN401
        """Take one file that was imported."""
        if report.failed:
            self.failed = self.failed or report.nodeid


def _run_tests(folder: Path, files: Sequence[str], report: Path) -> None:
    """Run in the forked process: it imports peftbench from the copy, and ends without going back."""
    os.setsid()
    with report.with_suffix(".txt").open("w") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_BYTES, held + MEMORY_BYTES))
    os.environ |= {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.path[:] = [str(folder / "src"), *(path for path in sys.path if path not in ("", str(ROOT)))]
    os.chdir(folder)
    import pytest

    watch = Watch()
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci", *files], plugins=[watch])
    failed = watch.failed or (f"pytest ended with {int(code)}" if code else "")
    report.write_text(json.dumps([failed, watch.files]))
    sys.stdout.flush()
    os._exit(0)


def try_tests(folder: Path, files: Sequence[str], timeout_s: float) -> Outcome:
    """Run test files of the copy in `folder` in a fork of this process, for `timeout_s` seconds at most."""
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        try:
            _run_tests(folder, files, report)
        finally:
            os._exit(1)
    while not (ended := os.waitpid(process, os.WNOHANG)[0]) and time.monotonic() < start + timeout_s:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if not ended:
        os.waitpid(process, 0)
    seconds = time.monotonic() - start
    if not report.is_file():
        return Outcome("ended without a report" if ended else f"not over after {timeout_s:.0f} s", seconds, {})
    failed, times = json.loads(report.read_text())
    return Outcome(failed, seconds, times)


def in_order(module: Path, files: dict[str, float]) -> list[str]:
    """Return the test files of a room: first the module's own, then the quick ones."""
    own = f"test_{module.stem}.py"
    return sorted(
        files, key=lambda file: (Path(file).name != own, Path(file).parent.name != module.parent.name, files[file])
    )


@contextlib.contextmanager
def made(folder: Path, fault: MutationSpec) -> Iterator[str]:
    """Make a fault in the copy as long as the block runs; yields the changed module."""
    file = folder / fault.module_path
    source, state = file.read_text("utf-8"), file.stat()
    mutated = mutant(folder, fault)
    file.write_text(mutated, "utf-8")
    try:
        yield mutated
    finally:
        file.write_text(source, "utf-8")
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))  # compiled files go by it


def changed_line(source: str, mutated: str) -> tuple[int, str, str]:
    """Return the first line that a fault changes: its number, and what stood and stands there."""
    for number, (old, new) in enumerate(zip(source.splitlines(), mutated.splitlines(), strict=False), start=1):
        if old != new:
            return number, old.strip(), new.strip()
    return 0, "", ""


# --- all faults


def _digest(room: str, root: Path = ROOT) -> str:
    files = sorted((root / "tests" / "unit" / room).rglob("*.py"))
    return rank(*(file.read_text("utf-8") for file in files))


def open_session(db: WorkDB, wanted: Sequence[WorkItem]) -> None:
    """Let the session hold the faults that are wanted, and what is still true of its results.

    A result of a fault is dropped with the source around it; "not seen" is dropped as soon as the room's tests change.
    """
    results = dict(db.results)
    db.clear()
    db.add_work_items(wanted)
    for item in wanted:
        result = results.get(item.job_id)
        if result and (not survived(result) or json.loads(result.output)["tests"] == _digest(room_of(item))):
            db.set_result(item.job_id, result)


def survived(result: WorkResult) -> bool:
    """Return whether no test failed."""
    return str(result.test_outcome.value) == "survived"


def room_of(item: WorkItem) -> str:
    """Return the room in which a fault is."""
    return next(room for room in ROOMS if module_of(item).startswith(room + "/"))


def module_of(item: WorkItem) -> str:
    """Return the module in which a fault is, from the package's folder."""
    (fault,) = item.mutations
    return str(fault.module_path.relative_to("src/peftbench").as_posix())


@contextlib.contextmanager
def a_copy() -> Iterator[Path]:
    """Yield a folder with a copy of the project: faults are never made in the project itself."""
    left_out = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "site", "*.egg-info")
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        shutil.copytree(ROOT, Path(name) / "project", ignore=left_out)
        yield Path(name) / "project"


def baseline(folder: Path, room: str) -> Outcome:
    """Run the tests of a room without a fault, and return how long its files take.

    Raises:
        SystemExit: They fail.
    """
    found = try_tests(folder, [f"tests/unit/{room}"], 600.0)
    if found.seen_by:
        raise SystemExit(f"mutants: the tests of {room} fail without a fault: {found.seen_by}")
    return found


def work(db: WorkDB, end: float) -> None:
    """Try the faults that have no result yet, until the clock is at `end`."""
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

    pending = sorted(db.pending_work_items, key=lambda item: (ROOMS.index(room_of(item)), module_of(item)))
    if not pending:
        return
    for name in WARM:
        importlib.import_module(name)
    with a_copy() as folder:
        clean: dict[str, Outcome] = {}
        for item in pending:
            room, (fault,) = room_of(item), item.mutations
            if room not in clean:
                clean[room] = baseline(folder, room)
                print(f"{room}: {clean[room].seconds:.1f} s without a fault", flush=True)
            timeout_s = 10 + 3 * clean[room].seconds
            if time.monotonic() > end:
                return
            source = (ROOT / fault.module_path).read_text("utf-8")
            with made(folder, fault) as mutated:
                found = try_tests(folder, in_order(fault.module_path, clean[room].files), timeout_s)
            number, old, new = changed_line(source, mutated)
            outcome = TestOutcome.KILLED if found.seen_by else TestOutcome.SURVIVED
            output = {
                "line": old,
                "mutated": new,
                "number": number,
                "seen by": found.seen_by,
                "tests": _digest(room, folder),
            }
            db.set_result(
                item.job_id, WorkResult(WorkerOutcome.NORMAL, json.dumps(output), outcome, f"- {old}\n+ {new}")
            )
            word = f"seen by {found.seen_by}" if found.seen_by else "NOT SEEN"
            print(f"{module_of(item)}:{number} {found.seconds:.1f} s {word}\n  - {old}\n  + {new}", flush=True)


def report(db: WorkDB, entries: Sequence[Equivalent]) -> int:
    """Print what was seen, a room a line, and each fault that was not; return the exit status."""
    done = [(item, json.loads(result.output), survived(result)) for item, result in db.completed_work_items]
    known = {entry.key: entry for entry in entries}
    print(f"\n{'room':18}{'faults':>8}{'seen':>8}{'change nothing':>16}{'not seen':>10}")
    open_faults, seen_now = [], []
    for room in ROOMS:
        mine = [(item, output, lives) for item, output, lives in done if room_of(item) == room]
        keys = [(module_of(item), output["line"], output["mutated"]) for item, output, _ in mine]
        alive = [key for key, (*_, lives) in zip(keys, mine, strict=True) if lives]
        seen_now += [key for key in keys if key in known and key not in alive]
        mute = [key for key in alive if key in known]
        open_faults += [
            (f"{key[0]}:{output['number']}", output)
            for key, (_, output, lives) in zip(keys, mine, strict=True)
            if lives and key not in known
        ]
        print(f"{room:18}{len(mine):8}{len(mine) - len(alive):8}{len(mute):16}{len(alive) - len(mute):10}")
    seen = sum(not lives for *_, lives in done)
    print(f"seen: {seen} of {len(done)} ({seen / max(1, len(done)):.1%})")
    for where, output in sorted(open_faults, key=lambda fault: fault[0]):
        print(f"not seen: {where}\n  - {output['line']}\n  + {output['mutated']}")
    for module, line, mutated in seen_now:
        print(f"{EQUIVALENT.name}: a test sees this fault now: {module}: {line} -> {mutated}")
    for entry in stale(entries):
        print(f"{EQUIVALENT.name}: {entry.module} has no such line any more: {entry.line}")
    if left := db.num_work_items - len(done):
        print(f"{left} faults are left: call it again")
    good = not open_faults and not seen_now and not stale(entries) and seen >= LEAST_SEEN * len(done)
    return 0 if good and not left else 1


def main() -> int:
    """Try the faults, and return 0 if enough were seen and the others are known to change nothing."""
    from cosmic_ray.work_db import use_db

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--faults", type=int, default=FAULTS, help="of all rooms together")
    parser.add_argument("--room", choices=ROOMS, help="this room alone, with its share of the faults")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop when they are over")
    parser.add_argument("--fresh", action="store_true", help="forget what was found before")
    options = parser.parse_args()
    start = time.monotonic()
    rooms = (options.room,) if options.room else ROOMS
    session = (
        ROOT
        / ".peftbench"
        / f"mutants-{options.seed}{'-' + options.room.replace('/', '-') if options.room else ''}.sqlite"
    )
    session.parent.mkdir(exist_ok=True)
    if options.fresh:
        session.unlink(missing_ok=True)
    with use_db(session) as db:
        open_session(db, [item for room in rooms for item in draw(room, options.faults // len(ROOMS), options.seed)])
        work(db, start + options.seconds)
        return report(db, read_equivalents())


if __name__ == "__main__":
    sys.exit(main())
