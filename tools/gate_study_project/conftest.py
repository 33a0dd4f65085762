"""Slows a case down as injection.json beside this file says: real work, within the round."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

INJECTION = Path(__file__).with_name("injection.json")
"""`{"workload": "train_step", "method": "lora", "kind": "matmul", "times": 12}`"""


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


def pytest_configure() -> None:
    """Wrap the workload, if anything is to be slowed down."""
    if not INJECTION.exists():
        return
    from peftbench.workloads.step import Inference, TrainStep

    wanted = json.loads(INJECTION.read_text())
    workload: Any = {"train_step": TrainStep, "inference": Inference}[wanted["workload"]]
    original = workload.trial

    def trial(self: Any, subject: Any) -> Any:  # noqa: ANN401 - whatever the workload makes
        made = original(self, subject)
        if subject.method.name != wanted["method"]:
            return made
        extra = work(wanted["kind"], wanted["times"])

        def run(number: int, mark: Any) -> None:  # noqa: ANN401
            extra()
            made.run(number, mark)

        return replace(made, run=run)

    workload.trial = trial
