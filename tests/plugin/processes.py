"""Child processes that are played by a function, which yields made-up launches."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.plugin.standin import FINGERPRINT
from tests.records import a_record

from peftbench.processes.launches.assignment import Assignment
from peftbench.processes.launches.process import Command, Ending
from peftbench.records.record import Launch, Metric, Record, Run
from peftbench.records.runfile import save_run

METHODS: Final = ("full", "head", "bitfit", "lora", "dora", "ia3")
BENCH: Final = """
from peftbench import bench

@bench("train_step")
def train_step(peft_case):
    peft_case.measure()
"""
SETTINGS: Final = {"model": "tiny", "dtype": "float32", "data": "none", "reference": "base"}
LORA: Final = "train_step[lora-nli-bs2]"


def made_up(method: str, *, launches: range, shift: float = 0.0, flops: int = 1000, bytecodes: int = 5000) -> Record:
    """Launches that differ by 1 % or so, in a way of their own for each method."""
    xs = [0.3 + shift + 0.01 * ((7 * number + 3 * METHODS.index(method)) % 5 - 2) for number in launches]
    return a_record(
        method,
        batch_size=2,
        seq_len=8,
        metrics={
            "flops": Metric(flops, "FLOP"),
            "bytecodes": Metric(bytecodes, "1"),
            "time_s": Metric(0.01, "s", noise="timed"),
            "ratio": Metric(math.exp(xs[0]) if xs else None, "1", noise="timed"),
        },
        launches=tuple(Launch("day", 40, 0.01, x=x) for x in xs),
    )


def brackets(name: str) -> str:
    """Escape a name for fnmatch."""
    return name.replace("[", "[[]")


class World:
    """What the made-up processes find, and what they were asked for."""

    def __init__(self) -> None:
        self.shift: dict[str, float] = {}
        self.at_first: dict[str, float] = {}
        """The same, of the first three launches only."""
        self.flops: dict[str, int] = {}
        self.bytecodes: dict[str, int] = {}
        self.out_of_memory: set[str] = set()
        self.skipped: set[str] = set()
        self.fingerprint: Mapping[str, str] = FINGERPRINT
        self.nodes: list[tuple[str, ...]] = []
        """Of each process."""
        self.known: list[tuple[str, ...]] = []
        """The nodes of each process of which only the time was wanted."""
        self.devices: list[str] = []

    @property
    def asked(self) -> list[list[str]]:
        """The methods that each process was asked for."""
        return [[node.partition("[")[2].partition("-")[0] for node in nodes] for nodes in self.nodes]

    def run(self, command: Command, log: Path, *, more: list[str]) -> Ending:
        """Stand in for a child process."""
        assert "pytest" in command.arguments
        assignment = Assignment.read(Path(more[0].partition("=")[2]))
        self.nodes.append(assignment.nodes)
        self.known.append(assignment.known)
        if device := command.environment.get("CUDA_VISIBLE_DEVICES"):
            self.devices.append(device)
        number = len(self.nodes)
        found = (
            replace(self._record(method, number), id=node.rpartition("::")[2])
            for node, method in zip(assignment.nodes, self.asked[-1], strict=True)
            if method not in self.skipped
        )
        save_run(Run(self.fingerprint, SETTINGS, tuple(found)), assignment.run_file)
        return Ending("", 1.0, log)

    def _record(self, method: str, number: int) -> Record:
        shift = self.shift.get(method, 0.0) + (self.at_first.get(method, 0.0) if number <= 3 else 0.0)
        found = made_up(
            method,
            launches=range(number, number + 1),
            shift=shift,
            flops=self.flops.get(method, 1000),
            bytecodes=self.bytecodes.get(method, 5000),
        )
        if method in self.out_of_memory:
            return replace(found, status="out-of-memory", reason="needs 2 GiB", metrics={}, launches=())
        return found
