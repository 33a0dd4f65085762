"""The pace of the host, with a stand-in for `torch.cuda` whose steps end in order."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from peftbench.measure.energy.pace import AHEAD, paced

DEVICE = torch.device("cuda", 0)


@dataclass
class Gpu:
    """A device that finishes no step before somebody waits for it."""

    launched: int = 0
    finished: int = 0
    ahead: list[int] = field(default_factory=list)
    events: int = 0

    def step(self, number: int) -> None:
        assert number == self.launched
        self.launched += 1
        self.ahead.append(self.launched - self.finished)

    def current_stream(self, device: torch.device) -> str:
        assert device == DEVICE
        return "the stream"

    def Event(self, *, blocking: bool) -> Event:  # noqa: N802 - torch's name
        assert blocking  # a host that spins would hold a core beside the sampler
        self.events += 1
        return Event(self)


@dataclass
class Event:
    gpu: Gpu
    after: int = 0

    def record(self, stream: str) -> None:
        assert stream == "the stream"
        self.after = self.gpu.launched

    def synchronize(self) -> None:
        self.gpu.finished = max(self.gpu.finished, self.after)


def test_the_host_is_a_few_steps_ahead_of_a_slow_device_and_never_more() -> None:
    gpu = Gpu()
    step = paced(gpu.step, DEVICE, cuda=gpu)
    for number in range(50):
        step(number)
    assert gpu.ahead == [*range(1, AHEAD + 1), *[AHEAD] * (50 - AHEAD)]
    assert gpu.events == AHEAD


def test_the_oldest_step_alone_is_waited_for() -> None:
    gpu = Gpu()
    step = paced(gpu.step, DEVICE, cuda=gpu)
    for number in range(AHEAD + 1):
        step(number)
    assert gpu.finished == 1
