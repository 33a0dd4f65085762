from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

from peftbench.measure.energy.nvml import Nvml
from peftbench.measure.memory.device_memory import (
    REPLAYED,
    WARM_ROUNDS,
    Parts,
    ResidentMemory,
    leak,
    memory_metrics,
    parts,
    parts_metrics,
    release,
    step_memory,
)
from peftbench.measure.trial import Mark, Trial

CUDA = torch.device("cuda", 0)
WEIGHTS = 4 * (8 * 4 + 4)
STEP = 2 * 4


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8, bias=False)
        self.second = nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        positions = torch.arange(16)
        self.register_buffer("positions", positions)
        self.register_buffer("window", positions[:4])


def test_shared_storage_counts_once_and_buffers_count() -> None:
    assert parts(Tied()) == Parts(weights_bytes=8 * 8 * 4 + 16 * 8, gradients_bytes=0, optimizer_bytes=0)


def test_frozen_weights_count_and_have_no_gradient() -> None:
    model = nn.Linear(8, 4).to(torch.bfloat16)
    model.weight.requires_grad = False
    model(torch.ones(1, 8, dtype=torch.bfloat16)).sum().backward()
    assert parts(model) == Parts(weights_bytes=(8 * 4 + 4) * 2, gradients_bytes=4 * 2, optimizer_bytes=0)


def test_optimizer_state_of_adam_is_two_moments_and_a_step_count() -> None:
    model = nn.Linear(8, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    assert parts(model, optimizer).optimizer_bytes == 0
    model(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    assert parts(model, optimizer) == Parts(WEIGHTS, WEIGHTS, 2 * WEIGHTS + STEP)


def test_parts_become_exact_metrics() -> None:
    metrics = parts_metrics(Parts(3, 2, 1))
    assert {name: (metric.value, metric.unit, metric.noise) for name, metric in metrics.items()} == {
        "weights_bytes": (3, "B", "exact"),
        "gradients_bytes": (2, "B", "exact"),
        "optimizer_bytes": (1, "B", "exact"),
    }


@dataclass
class Cuda:
    """Stand-in for torch.cuda that logs what is asked of it."""

    log: list[str] = field(default_factory=list)
    held: int = 7

    def synchronize(self, device: torch.device) -> None:
        assert device == CUDA
        self.log.append("synchronize")

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        assert device == CUDA
        self.log.append("reset")

    def max_memory_allocated(self, device: torch.device) -> int:
        assert device == CUDA
        self.log.append("read")
        return 1000

    def max_memory_reserved(self, device: torch.device) -> int:
        assert device == CUDA
        return 2000

    def memory_allocated(self, device: torch.device) -> int:
        assert device == CUDA
        self.log.append("allocated")
        return self.held

    def memory_reserved(self, device: torch.device) -> int:
        assert device == CUDA
        return self.held + 1000

    def empty_cache(self) -> None:
        self.log.append("empty")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    standin = Cuda()
    for name in [name for name in dir(Cuda) if not name.startswith("_") and name not in {"log", "held"}]:
        monkeypatch.setattr(torch.cuda, name, getattr(standin, name))
    return standin


def training(cuda: Cuda) -> Trial:
    model = nn.Linear(8, 4)
    optimizer = torch.optim.AdamW(model.parameters())

    def run(number: int, mark: Mark) -> None:
        cuda.log.append(f"run {number}")
        loss = model(torch.ones(1, 8)).sum()
        mark()
        loss.backward()
        mark()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mark()

    return Trial(model, run, lambda number: cuda.log.append(f"prepare {number}"), optimizer)


def test_a_warm_step_that_is_prepared_is_measured_between_two_synchronisations(cuda: Cuda) -> None:
    with Nvml(None, "no NVML here") as nvml:
        memory = step_memory(training(cuda), CUDA, nvml)
    warm = ["prepare 4", "run 4"] * WARM_ROUNDS
    assert cuda.log == [*warm, "prepare 4", "synchronize", "reset", "run 4", "synchronize", "read"]
    assert memory.parts == Parts(WEIGHTS, WEIGHTS, 2 * WEIGHTS + STEP)
    metrics = memory_metrics(memory)
    assert metrics["peak_allocated_bytes"].value == 1000
    assert metrics["peak_reserved_bytes"].value == 2000
    assert (metrics["device_used_bytes"].value, metrics["process_bytes"].reason) == (None, "no NVML here")


def test_what_stays_between_cases_is_taken_off_and_batches_are_not(cuda: Cuda) -> None:
    """The parts are those of the model itself, whatever else is resident."""
    cuda.held = 2000
    batches = [torch.zeros(3), torch.zeros(150, dtype=torch.long)]  # 512 and 1536 bytes on a device
    assert ResidentMemory.of(CUDA, batches[:1]) == ResidentMemory(2000 - 512, 3000 - 512)
    assert ResidentMemory.of(CUDA, batches) == ResidentMemory(0, 3000 - 2048)
    with Nvml(None, "no NVML here") as nvml:
        memory = step_memory(training(cuda), CUDA, nvml, ResidentMemory(300, 1200))
    assert (memory.peak_allocated_bytes, memory.peak_reserved_bytes) == (700, 800)
    assert memory.parts == Parts(WEIGHTS, WEIGHTS, 2 * WEIGHTS + STEP)


def test_a_replayed_step_has_the_parts_of_the_eager_one_and_no_peak_of_the_allocator(cuda: Cuda) -> None:
    trial = training(cuda)
    with Nvml(None, "no NVML here") as nvml:
        replayed = replace(trial, run=lambda number, _mark: cuda.log.append(f"replay {number}"), eager=trial.run)
        memory = step_memory(replayed, CUDA, nvml)
    assert cuda.log[-4:] == ["replay 4", "synchronize", "read", "run 4"]
    assert memory.parts == Parts(WEIGHTS, WEIGHTS, 2 * WEIGHTS + STEP)
    allocated = memory_metrics(memory)["peak_allocated_bytes"]
    assert (allocated.value, allocated.reason) == (None, REPLAYED)


def test_release_gives_back_before_it_looks(cuda: Cuda) -> None:
    assert release(CUDA) == 7
    assert cuda.log == ["synchronize", "empty", "allocated"]
    assert release(torch.device("cpu")) == 0


def test_a_leak_names_its_case() -> None:
    assert leak("train_step[lora-nli-bs8]", 100, 100 + 3 * 2**20) == (
        "train_step[lora-nli-bs8] left 3.0 MiB allocated on the device"
    )
    assert leak("case", 100, 100 + 2**20) == ""
    assert leak("case", 2**30, 100) == ""
