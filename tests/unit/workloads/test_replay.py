"""Rounds that replay: fixed inputs, one capture. A stand-in for the capture calls its function at each replay."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from peftbench.devices.execution import Execution
from peftbench.devices.graphs import CapturedGraph
from peftbench.measure.trial import Mark, Trial, nothing
from peftbench.workloads.replay import Replay, executed

CPU = torch.device("cpu")
BATCHES = [{"x": torch.full((2,), float(number))} for number in range(3)]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []

    def capture(body: Callable[[], object], device: torch.device) -> CapturedGraph:
        assert device == CPU
        seen.append("captured")
        return CapturedGraph(body, lambda: seen.append("freed"), capture_s=0.5, pool_bytes=64)

    monkeypatch.setattr("peftbench.workloads.replay.capture", capture)
    return seen


def test_each_round_copies_its_batch_to_where_the_graph_reads_it(log: list[str]) -> None:
    seen: list[float] = []
    places: set[int] = set()

    def body(batch: dict[str, torch.Tensor]) -> None:
        places.add(batch["x"].data_ptr())
        seen.append(float(batch["x"][0]))

    replay = Replay(body, BATCHES, CPU)
    assert replay.metrics() == {}
    for number in (0, 1, 2, 4):
        replay.round(number, nothing)
    assert log == ["captured"]
    assert seen == [0, 1, 2, 1]
    assert len(places) == 1
    assert places.isdisjoint(batch["x"].data_ptr() for batch in BATCHES)
    assert BATCHES[0]["x"].tolist() == [0, 0]
    assert {name: metric.value for name, metric in replay.metrics().items()} == {"capture_s": 0.5, "graph_bytes": 64}
    replay.close()
    assert log == ["captured", "freed"]


def test_the_round_as_written_is_kept_for_what_looks_at_operators(log: list[str]) -> None:
    def run(number: int, mark: Mark) -> None:
        del number, mark

    plain = Trial(nn.Linear(1, 1), run)
    assert executed(plain, Execution(), print, BATCHES, CPU) is plain
    assert executed(plain, Execution("compile", "max-autotune"), print, BATCHES, CPU) is plain
    replayed = executed(plain, Execution("graph"), lambda batch: log.append(f"{float(batch['x'][0])}"), BATCHES, CPU)
    assert replayed.eager is run
    replayed.run(2, nothing)
    replayed.close()
    assert log == ["captured", "2.0", "freed"]
