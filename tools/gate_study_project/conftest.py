"""Slows a case down as injection.json beside this file says: real work, within the round."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

INJECTION = Path(__file__).with_name("injection.json")
"""`[{"case": "train_step[lora-nli-bs8]", "kind": "matmul", "times": 12}, ...]`"""
FELT = Path(__file__).with_name("felt.jsonl")
"""Gets a line a process and case: what the work took within its rounds."""


def wait() -> None:
    """Wait for a GPU, if there is one, so that the round is timed and not its launch."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def work(kind: str, times: int) -> Callable[[], None]:
    """Return a function that does the unit of work of a kind so many times."""
    import torch

    left, right = torch.ones(64, 64), torch.ones(64, 64)

    def loop() -> None:
        for _ in range(times):
            pass

    def matmul() -> None:
        for _ in range(times):
            left @ right

    def clone() -> None:
        for _ in range(times):
            left.clone()

    def sleep() -> None:
        time.sleep(times * 1e-6)

    return {"loop": loop, "matmul": matmul, "clone": clone, "sleep": sleep}[kind]


@dataclass(frozen=True)
class Slowdown:
    """More work in each round of a case, and what it took."""

    case: str
    kind: str
    times: int
    rounds: list[tuple[float, float]] = field(default_factory=list)
    """Seconds of the work and of the round proper."""

    def added_to(self, made: Any) -> Any:  # noqa: ANN401 - whatever the workload makes
        """Return what the workload made with the work in its rounds."""
        more = work(self.kind, self.times)

        def run(number: int, mark: Any) -> None:  # noqa: ANN401
            start = time.perf_counter()
            more()
            between = time.perf_counter()
            made.run(number, mark)
            wait()  # the clock does so next
            self.rounds.append((between - start, time.perf_counter() - between))

        return replace(made, run=run)

    def told(self) -> dict[str, Any]:
        """Return what it took, the median over rounds."""
        shares = [more_s / round_s for more_s, round_s in self.rounds]
        more_s, round_s = map(statistics.median, zip(*self.rounds, strict=True))
        return {
            "case": self.case,
            "kind": self.kind,
            "unit_s": more_s / self.times,
            "round_s": round_s,
            "share": statistics.median(shares),
        }


def pytest_configure(config: pytest.Config) -> None:
    """Wrap the workloads, if anything is to be slowed down."""
    if not INJECTION.exists():
        return
    from peftbench.records.ids import CaseId
    from peftbench.workloads.step import Inference, TrainStep

    slowdowns = [Slowdown(**one) for one in json.loads(INJECTION.read_text())]
    for name, workload in {"train_step": TrainStep, "inference": Inference}.items():
        slow(
            workload,
            {
                one.case.partition("[")[2].rsplit("-", 2)[0]: one
                for one in slowdowns
                if CaseId(one.case).function == name
            },
        )

    def keep() -> None:
        with FELT.open("a") as file:
            file.writelines(json.dumps(one.told()) + "\n" for one in slowdowns if one.rounds)

    config.add_cleanup(keep)


def slow(workload: Any, slowdowns: dict[str, Slowdown]) -> None:  # noqa: ANN401 - a class of workloads
    """Let the rounds of some methods do more work."""
    original = workload.trial

    def trial(self: Any, subject: Any) -> Any:  # noqa: ANN401
        made = original(self, subject)
        slowdown = slowdowns.get(subject.method.name)
        return slowdown.added_to(made) if slowdown else made

    workload.trial = trial
