"""Slows a case down as injection.json beside this file says: real work, within the round."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

INJECTION = Path(__file__).with_name("injection.json")
"""`[{"workload": "train_step", "method": "lora", "kind": "matmul", "times": 12}, ...]`"""


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
    """Wrap the workloads, if anything is to be slowed down."""
    from peftbench.workloads.step import Inference, TrainStep

    wanted = json.loads(INJECTION.read_text()) if INJECTION.exists() else []
    for name, workload in {"train_step": TrainStep, "inference": Inference}.items():
        slow(workload, {one["method"]: work(one["kind"], one["times"]) for one in wanted if one["workload"] == name})


def slow(workload: Any, extra: Mapping[str, Callable[[], None]]) -> None:  # noqa: ANN401 - a class of workloads
    """Let the rounds of some methods do more work."""
    original = workload.trial

    def trial(self: Any, subject: Any) -> Any:  # noqa: ANN401 - whatever the workload makes
        made = original(self, subject)
        more = extra.get(subject.method.name)
        if more is None:
            return made

        def run(number: int, mark: Any) -> None:  # noqa: ANN401
            more()
            made.run(number, mark)

        return replace(made, run=run)

    workload.trial = trial
