"""Traces made by hand, in the form in which torch.profiler exports them, through the reader of files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peftbench.measure.busy.profile import UNSEEN, busy_metrics, busy_round, union_s
from peftbench.measure.busy.profiling import profile_rounds, take_busy
from peftbench.measure.busy.trace import PHASE, PROBE, ROUND, Trace, read_trace
from peftbench.measure.trial import Mark, Trial

Event = Mapping[str, Any]
FLASH = "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, cutlass::bfloat16_t>>"
ADAM = "void at::native::multi_tensor_apply_kernel<at::native::FusedOptimizerTensorListMetadata<4>>"
ADD = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>"
GEMM = "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNT"


def annotated(name: str, start: float, end: float) -> Event:
    return {"ph": "X", "cat": "user_annotation", "name": name, "ts": start, "dur": end - start, "args": {}}


def launch(at: float, correlation: int, category: str = "cuda_runtime") -> Event:
    return {"ph": "X", "cat": category, "name": "launch", "ts": at, "dur": 2, "args": {"correlation": correlation}}


def work(
    name: str, start: float, end: float, correlation: int, *, stream: int = 7, category: str = "kernel", device: int = 0
) -> Event:
    arguments = {"device": device, "stream": stream, "correlation": correlation, "External id": 3}
    return {"ph": "X", "cat": category, "name": name, "ts": start, "dur": end - start, "args": arguments}


NOISE: Sequence[Event] = (
    {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}},
    {"ph": "s", "id": 3, "cat": "ac2g", "name": "ac2g", "ts": 120},
    {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 110, "dur": 900, "args": {}},
    {"ph": "X", "cat": "gpu_user_annotation", "name": ROUND, "ts": 100, "dur": 5000, "args": {"stream": 7}},
    {"ph": "X", "cat": "cuda_sync", "name": "Stream Sync", "ts": 100, "dur": 5000, "args": {"stream": 7}},
)
"""What else stands in a trace. Its annotations on the device's time line are no work."""
PROBED: Sequence[Event] = (annotated(PROBE, 10, 20), launch(12, 1), work(ADD, 14, 15, 1))
STEP: Sequence[Event] = (
    annotated(ROUND, 100, 1000),
    annotated(PHASE + "forward", 100, 400),
    annotated(PHASE + "backward", 400, 700),
    annotated(PHASE + "optimizer", 700, 1000),
    launch(110, 2),
    work(GEMM, 200, 300, 2),
    launch(120, 3, "cuda_driver"),
    work(FLASH, 250, 350, 3, stream=20),  # half of it beside the product
    launch(130, 4),
    work("Memcpy HtoD (Pageable -> Device)", 350, 360, 4, category="gpu_memcpy"),
    launch(380, 5),
    work(GEMM, 900, 1100, 5),  # launched forward, though it ends when the host has left the round
    launch(500, 6),
    work("Memset (Device)", 1100, 1110, 6, category="gpu_memset"),
    launch(800, 7),
    work(ADD, 1200, 1260, 7),  # a loop of additions is an optimizer, too
    launch(810, 8),
    work(ADAM, 1300, 1340, 8),
    work(ADD, 1300, 1340, 9, device=1),
    launch(1500, 10),
    work(ADD, 1501, 1600, 10),  # after the round
)


def read(tmp_path: Path, *events: Event, device: int | None = 0) -> Trace:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"schemaVersion": 1, "baseTimeNanoseconds": 1, "traceEvents": events}))
    return read_trace(path, device=device)


def test_a_step_is_busy_for_the_union_of_its_kernels_copies_and_sets(tmp_path: Path) -> None:
    trace = read(tmp_path, *PROBED, *NOISE, *reversed(STEP))
    (intervals,) = trace.rounds
    found = busy_round(intervals, ["forward", "backward", "optimizer"])
    us = 1e-6
    assert found.busy_s == pytest.approx((150 + 10 + 200 + 10 + 60 + 40) * us)
    assert found.kernels == 5
    assert found.phase_s == pytest.approx({"forward": 360 * us, "backward": 10 * us, "optimizer": 100 * us})
    assert found.family_s == pytest.approx(
        {
            "matmul": 300 * us,
            "attention": 100 * us,
            "elementwise": 0,
            "optimizer": 100 * us,
            "copy": 20 * us,
            "communication": 0,
            "other": 0,
        }
    )
    assert [(one.name, one.family, one.calls) for one in found.longest[:2]] == [
        (GEMM, "matmul", 2),
        (FLASH, "attention", 1),
    ]
    assert found.longest[0].time_s == pytest.approx(300 * us)


def test_a_replayed_graph_is_one_launch_of_many_kernels(tmp_path: Path) -> None:
    replay = (annotated(ROUND, 100, 200), launch(110, 2), work(GEMM, 300, 400, 2), work(ADAM, 400, 450, 2))
    trace = read(tmp_path, *PROBED, *replay)
    assert busy_round(trace.rounds[0], []).kernels == 2
    assert busy_round(trace.rounds[0], []).busy_s == pytest.approx(150e-6)


def test_the_round_in_the_middle_stands_for_all_and_the_share_is_of_timed_rounds(tmp_path: Path) -> None:
    events: list[Event] = [*PROBED]
    for number, busy in enumerate((50, 80, 60)):
        at = 1000 * (number + 1)
        events += [
            annotated(ROUND, at, at + 500),
            launch(at + 1, number + 2),
            work(ADD, at + 9, at + 9 + busy, number + 2),
        ]
    metrics, longest = busy_metrics(read(tmp_path, *events), phases=(), time_s=240e-6)
    assert metrics["busy_s"].value == pytest.approx(60e-6)
    assert (metrics["busy_s"].low, metrics["busy_s"].high) == pytest.approx((50e-6, 80e-6))
    assert metrics["busy_share"].value == pytest.approx(0.25)
    assert metrics["kernels"].value == 1
    assert metrics["elementwise_kernels_s"].value == pytest.approx(60e-6)
    assert [one.family for one in longest] == ["elementwise"]
    assert all(metric.noise == "sampled" for metric in metrics.values())  # none is a counter of the gate


def test_a_kernel_of_a_long_name_is_told_by_its_beginning(tmp_path: Path) -> None:
    events = [annotated(ROUND, 100, 200), launch(110, 2), work("k" * 120, 120, 130, 2), work("l" * 121, 130, 150, 2)]
    _, longest = busy_metrics(read(tmp_path, *PROBED, *events), phases=(), time_s=1e-4)
    assert [one.name for one in longest] == ["l" * 117 + "...", "k" * 120]


def test_an_idle_round_is_zero_and_a_trace_that_saw_nothing_is_a_reason(tmp_path: Path) -> None:
    seen, _ = busy_metrics(read(tmp_path, *PROBED, annotated(ROUND, 100, 200)), phases=["forward"], time_s=1e-3)
    assert (seen["busy_s"].value, seen["busy_share"].value, seen["forward_busy_s"].value) == (0, 0, 0)
    blind = read(tmp_path, annotated(PROBE, 10, 20), annotated(ROUND, 100, 200), *NOISE)
    metrics, longest = busy_metrics(blind, phases=(), time_s=1e-3)
    assert {(metric.value, metric.reason) for metric in metrics.values()} == {(None, UNSEEN)}
    assert longest == ()


@pytest.mark.parametrize("text", ["", "{}", '{"traceEvents": 3}'])
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "trace.json").write_text(text)
    with pytest.raises(ValueError, match="trace"):
        read_trace(tmp_path / "trace.json")


@pytest.mark.parametrize(
    ("intervals", "length"),
    [
        ([], 0),
        ([(1, 2), (3, 5)], 3),
        ([(1, 4), (2, 3)], 3),
        ([(2, 6), (1, 3), (3, 4)], 5),
        ([(1, 1), (1, 2), (2, 3)], 2),
    ],
)
def test_the_length_of_a_union(intervals: list[tuple[float, float]], length: float) -> None:
    assert union_s(intervals) == length


def test_the_real_profiler_is_read_with_its_rounds_and_phases(tmp_path: Path) -> None:
    """On a CPU: the ranges are there, and no device."""
    del tmp_path
    seen: list[int] = []
    layer = nn.Linear(4, 4)

    def run(number: int, mark: Mark) -> None:
        seen.append(number)
        layer(torch.ones(1, 4)).sum().backward()
        mark()

    trial = Trial(layer, run, prepare=lambda number: seen.append(-number))
    trace = profile_rounds(trial, torch.device("cpu"), phases=["forward"], rounds=2)
    assert trace == Trace(rounds=((), ()), saw_device=False)
    assert seen == [0, 0, -1, 1, -2, 2]


def test_a_torch_without_cupti_says_so() -> None:
    trial = Trial(nn.Linear(1, 1), lambda _number, _mark: None)
    metrics, _ = take_busy(trial, torch.device("cpu"), phases=(), time_s=1.0)
    if torch.version.cuda is None:
        assert "without CUPTI" in metrics["busy_s"].reason
    assert metrics["busy_s"].value is None
