"""What only a GPU can show. No assertion is on how fast it is: they hold on any device that CUDA supports."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from peftbench.config.settings import Settings
from peftbench.devices.execution import Execution
from peftbench.devices.failures import classify, context_is_alive
from peftbench.devices.graphs import capture
from peftbench.devices.precision import Precision
from peftbench.errors import UnsupportedError
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.busy.profiling import take_busy
from peftbench.measure.energy.nvml import Nvml
from peftbench.measure.energy.window import busy_window, energy_metrics, idle_window
from peftbench.measure.memory.device_memory import LEAK_BYTES, leak, memory_metrics, release, step_memory
from peftbench.measure.time.clock import CudaClock, clock_for
from peftbench.measure.trial import Mark, Trial
from peftbench.records.conditions import HOST_BOUND_BELOW
from peftbench.workloads.backend import Backend
from peftbench.workloads.lifecycle import left_bytes
from peftbench.workloads.replay import executed

SPIN_CYCLES = 20_000_000
"""About 10 ms."""
spin_kernel: Callable[[int], None] = torch.cuda._sleep


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", 0)


def spin(mark: Mark) -> None:
    spin_kernel(SPIN_CYCLES)
    mark()
    spin_kernel(2 * SPIN_CYCLES)
    mark()


def training(device: torch.device, *, width: int = 1024) -> Trial:
    model = nn.Linear(width, width).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batch = torch.ones(width, width, device=device)

    def run(number: int, mark: Mark) -> None:
        del number
        loss = model(batch).square().mean()
        mark()
        loss.backward()
        mark()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mark()

    return Trial(model, run, optimizer=optimizer)


def test_event_time_lies_within_wall_time(device: torch.device) -> None:
    clock = clock_for(device)
    for _ in range(3):
        timing = clock.time(spin)
    assert timing.device_s is not None
    assert 0 < sum(timing.phases_s) <= timing.device_s <= timing.wall_s
    first_s, second_s = timing.phases_s
    assert second_s == pytest.approx(2 * first_s, rel=0.1)


def test_a_round_that_waits_for_the_host_is_host_bound_and_a_spinning_one_is_not(device: torch.device) -> None:
    def waits(number: int, mark: Mark) -> None:
        del number
        spin_kernel(1000)
        time.sleep(0.05)
        spin_kernel(1000)
        mark()

    def spins(number: int, mark: Mark) -> None:
        del number
        spin(mark)

    clock = CudaClock(device)
    shares = []
    for run, phases in ((waits, ["forward"]), (spins, ["forward", "backward"])):
        trial = Trial(nn.Linear(1, 1), run)
        time_s = min(clock.time(partial(run, number)).wall_s for number in range(3))
        metrics, longest = take_busy(trial, device, phases=phases, time_s=time_s)
        assert metrics["busy_share"].reason == ""
        assert metrics["kernels"].value == 2
        assert len(longest) == 1
        shares.append(metrics["busy_share"].value)
    assert shares[0] is not None
    assert shares[1] is not None
    assert shares[0] < HOST_BOUND_BELOW < shares[1]
    assert metrics["backward_busy_s"].value == pytest.approx(2 * (metrics["forward_busy_s"].value or 0), rel=0.1)


def test_a_replayed_step_trains_as_the_step_as_written(device: torch.device) -> None:
    def trained(*, replayed: bool) -> tuple[torch.Tensor, set[str]]:
        torch.manual_seed(0)
        layer = nn.Linear(16, 16).to(device)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.01, fused=True, capturable=True)
        batches = [{"x": torch.full((4, 16), number + 1.0, device=device)} for number in range(2)]

        def on_batch(batch: dict[str, torch.Tensor]) -> None:
            layer(batch["x"]).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        trial = Trial(layer, lambda number, _mark: on_batch(batches[number % 2]), optimizer=optimizer)
        if replayed:
            trial = executed(trial, Execution("graph"), on_batch, batches, device)
        else:
            for _ in range(3):  # the rounds before a capture
                on_batch(batches[0])
        for number in range(4):
            trial.run(number, lambda: None)
        torch.cuda.synchronize(device)
        found = {name for name, metric in trial.found().items() if metric.value is not None}
        trial.close()
        return layer.weight.detach().clone(), found

    (plain, none), (graph, metrics) = trained(replayed=False), trained(replayed=True)
    torch.testing.assert_close(graph, plain)
    assert (none, metrics) == (set(), {"capture_s", "graph_bytes"})


def test_what_waits_for_the_device_is_no_graph_and_the_device_goes_on(device: torch.device) -> None:
    batch = {"x": torch.ones(4, device=device)}

    def on_batch(given: dict[str, torch.Tensor]) -> None:
        nn.functional.dropout(given["x"]).sum().item()

    trial = executed(Trial(nn.Linear(1, 1), lambda *_: None), Execution("graph"), on_batch, [batch], device)
    with pytest.raises(UnsupportedError, match=r"^CUDA graph: the round waits for the device \(test_gpu.py:\d+\)$"):
        trial.run(0, lambda: None)
    assert context_is_alive(device)
    nn.functional.dropout(torch.ones(4, device=device))


def test_a_capture_that_breaks_leaves_allocator_and_generator_usable(device: torch.device) -> None:
    batch = {"x": torch.ones(4, device=device)}

    def on_batch(given: dict[str, torch.Tensor]) -> None:
        nn.functional.dropout(given["x"])
        torch.cuda.synchronize(device)  # a wait that torch does not report, and no capture may hold

    trial = executed(Trial(nn.Linear(1, 1), lambda *_: None), Execution("graph"), on_batch, [batch], device)
    with pytest.raises(UnsupportedError, match=r"^CUDA graph: "):
        trial.run(0, lambda: None)
    release(device)
    nn.functional.dropout(torch.ones(4, device=device))
    total = torch.zeros(1, device=device)
    graph = capture(lambda: total.add_(1), device)
    before = total.item()
    graph.replay()
    assert total.item() == before + 1
    graph.reset()


def test_memory_of_a_step_and_what_it_leaves_behind(device: torch.device) -> None:
    before = release(device)
    trial = training(device)
    with Nvml.of(device) as nvml:
        memory = step_memory(trial, device, nvml)
    weights = 4 * (1024 * 1024 + 1024)
    assert memory.parts.weights_bytes == memory.parts.gradients_bytes == weights
    assert 2 * weights <= memory.parts.optimizer_bytes <= 2 * weights + 1024
    owned = 4 * weights
    assert memory.peak_allocated_bytes is not None
    assert owned < memory.peak_allocated_bytes <= memory.peak_reserved_bytes
    assert memory_metrics(memory)["device_used_bytes"].value != 0
    assert leak("held", before, release(device)).startswith("held left")
    del trial
    assert leak("gone", before, release(device)) == ""


def test_nvml_knows_the_device_of_torch(device: torch.device) -> None:
    with Nvml.of(device) as nvml:
        assert nvml.driver_version().reason == ""
        memory, state = nvml.memory(), nvml.state()
        process_bytes = nvml.process_bytes()
    total = torch.cuda.get_device_properties(device).total_memory
    assert memory.total_bytes.value == pytest.approx(total, rel=0.1)
    assert state.sm_clock_mhz.value
    assert state.clock_events.value is not None
    assert (process_bytes.value or 0) > 0 or process_bytes.reason


@pytest.mark.parametrize("visible", ["0", "uuid"])
def test_nvml_finds_the_device_that_cuda_was_shown(visible: str, device: torch.device) -> None:
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    code = (
        "import torch; from peftbench.measure.energy.nvml import Nvml\n"
        "with Nvml.of(torch.device('cuda', 0)) as nvml: print(nvml.memory().total_bytes.reason, end='')"
    )
    shown = f"GPU-{uuid}" if visible == "uuid" else visible
    if os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("MIG-"):
        pytest.skip("the process was given a MIG instance: its GPU cannot be named")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": shown},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""


def test_energy_of_a_step_is_positive_or_has_a_reason(device: torch.device) -> None:
    trial, synchronize = training(device), partial(torch.cuda.synchronize, device)
    with Nvml.of(device) as nvml:
        busy = busy_window(nvml.energy_j, lambda number: trial.run(number, lambda: None), synchronize)
        idle = idle_window(nvml.energy_j)
    metrics = energy_metrics(busy, idle, tokens=1)
    for metric in metrics.values():
        assert (metric.value is None) == bool(metric.reason)
    if busy.value is not None:
        assert busy.value.energy_j > 0


def test_out_of_memory_says_how_much_and_the_device_goes_on(device: torch.device) -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**44, dtype=torch.uint8, device=device)
    failure = classify(caught.value, "first step")
    assert (failure.kind, failure.asked_bytes) == ("out-of-memory", 2**44)
    assert context_is_alive(device)


def test_a_failed_assertion_on_the_device_is_poison() -> None:
    code = """
import torch
from peftbench.devices.execution import Execution
from peftbench.devices.failures import classify, context_is_alive
device = torch.device("cuda", 0)
try:
    torch.zeros(4, device=device)[torch.tensor([9], device=device)].sum().item()
except RuntimeError as error:
    print(classify(error, "forward").kind, context_is_alive(device), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "poison False"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_step_under_autocast_changes_the_weights(dtype: str, device: torch.device) -> None:
    precision = Precision(dtype=dtype, autocast=True)
    precision.require(device)
    layer = nn.Linear(8, 8).to(device)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    scaler = precision.scaler(device)
    for _ in range(20):
        with precision.forward_context(device):
            loss = layer(torch.ones(8, 8, device=device)).float().square().mean()
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()
    assert not torch.equal(layer.weight, before)
    assert torch.isfinite(layer.weight).all()


@pytest.mark.parametrize("method", ["lora(r=64)", "houlsby(reduction_factor=2)"])
def test_an_adapter_that_is_removed_leaves_no_memory_behind(method: str) -> None:
    catalogue = Catalogue.load()
    backend = Backend.open(Settings(model="bert-base", device="cuda"), catalogue, [catalogue.task("nli")])
    left = left_bytes(backend.group("nli", 1).subject(parse_method(method)))
    assert left.value is not None
    assert abs(left.value) < LEAK_BYTES  # the adapter itself has some megabytes
