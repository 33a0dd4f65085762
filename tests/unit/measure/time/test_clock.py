import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch

from peftbench.errors import UserError
from peftbench.measure.time.clock import CpuClock, CudaClock, Timing, clock_for
from peftbench.measure.trial import Mark

LAUNCH_S = 1e-6


@dataclass
class Gpu:
    """A host and one stream on a common time line: kernels run in order, each after it was launched."""

    host_s: float = 0.0
    stream_s: float = 0.0
    log: list[str] = field(default_factory=list)
    made: int = 0

    def now(self) -> float:
        return self.host_s

    def launch(self, kernel_s: float, *, host_s: float = LAUNCH_S) -> None:
        self.host_s += host_s
        self.stream_s = max(self.stream_s, self.host_s) + kernel_s

    def synchronize(self, device: torch.device) -> None:
        assert device == DEVICE
        self.log.append("synchronize")
        self.host_s = max(self.host_s, self.stream_s)

    def current_stream(self, device: torch.device) -> str:
        assert device == DEVICE
        return "the stream"

    def Event(self, *, enable_timing: bool) -> "Event":  # noqa: N802 - torch's name
        assert enable_timing
        self.made += 1
        return Event(self)


@dataclass
class Event:
    gpu: Gpu
    at_s: float = float("nan")

    def record(self, stream: str) -> None:
        assert stream == "the stream"
        self.gpu.log.append("event")
        self.at_s = max(self.gpu.stream_s, self.gpu.host_s)

    def elapsed_time(self, other: "Event") -> float:
        assert self.gpu.log[-1] == "synchronize", "an event is read before it has happened"
        return (other.at_s - self.at_s) * 1000


DEVICE = torch.device("cuda", 0)


def cuda_clock(gpu: Gpu) -> CudaClock:
    return CudaClock(DEVICE, cuda=gpu, now=gpu.now)


def step(gpu: Gpu, *kernels_s: float, host_s: float = LAUNCH_S) -> Callable[[Mark], None]:
    def run(mark: Mark) -> None:
        for kernel_s in kernels_s:
            gpu.launch(kernel_s, host_s=host_s)
            mark()

    return run


def test_cpu_clock_reads_once_at_both_ends_and_at_each_mark() -> None:
    ticks = itertools.count()

    def two_phases(mark: Mark) -> None:
        mark()
        mark()

    timing = CpuClock(now=lambda: float(next(ticks) ** 2)).time(two_phases)
    assert timing == Timing(wall_s=9, phases_s=(1, 3), device_s=None)
    assert next(ticks) == 4


def test_cpu_clock_keeps_no_marks_between_rounds() -> None:
    clock = CpuClock()
    assert len(clock.time(lambda mark: mark()).phases_s) == 1
    assert clock.time(lambda mark: None).phases_s == ()  # noqa: ARG005 - a round without phases


def test_cuda_clock_synchronises_at_both_ends_only() -> None:
    gpu = Gpu()
    cuda_clock(gpu).time(step(gpu, 1, 2, 3))
    assert gpu.log == ["synchronize", *["event"] * 5, "synchronize"]


def test_cuda_clock_leaves_out_what_was_queued_before() -> None:
    gpu = Gpu()
    gpu.launch(100)
    timing = cuda_clock(gpu).time(step(gpu, 1, 2))
    assert timing.wall_s == pytest.approx(3, abs=1e-4)


def test_cuda_clock_splits_the_device_time_by_marks() -> None:
    gpu = Gpu()
    timing = cuda_clock(gpu).time(step(gpu, 1, 2, 4))
    assert timing.phases_s == pytest.approx((1, 2, 4), abs=1e-4)
    assert timing.device_s == pytest.approx(7, abs=1e-4)
    assert timing.wall_s == pytest.approx(7, abs=1e-4)


def test_cuda_clock_makes_its_events_once() -> None:
    gpu = Gpu()
    clock = cuda_clock(gpu)
    longer = clock.time(step(gpu, 1, 2, 4))
    made = gpu.made
    shorter = clock.time(step(gpu, 8))
    assert len(longer.phases_s) == 3
    assert shorter.phases_s == pytest.approx((8,), abs=1e-4)
    assert gpu.made == made == 5


def test_the_device_chooses_the_clock() -> None:
    assert isinstance(clock_for(torch.device("cpu")), CpuClock)
    with pytest.raises(UserError, match="allowed are cpu, cuda"):
        clock_for(torch.device("meta"))
