import math
from dataclasses import dataclass, field

import pytest

from peftbench.measure.energy.nvml import Reading
from peftbench.measure.energy.window import (
    COUNTER_PERIOD_S,
    FLOOR_S,
    LEAD_IN_PERIODS,
    POLL_S,
    UNCERTAINTY,
    EnergyWindow,
    busy_window,
    counter_period,
    energy_metrics,
    idle_window,
    net_window,
    window_length_s,
)

IDLE_W, BUSY_W, STEP_S = 70.0, 350.0, 0.05
WINDOW_S = window_length_s(COUNTER_PERIOD_S)
LEAD_IN_S = LEAD_IN_PERIODS * COUNTER_PERIOD_S
QUEUE = 4
UNKNOWN: Reading[EnergyWindow] = Reading(None, "why")


@dataclass
class Gpu:
    """A device whose counter moves every 100 ms, out of step with its steps, and a host that runs ahead of it."""

    host_s: float = 0.037
    device_s: float = 0.037
    busy: list[tuple[float, float]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def now(self) -> float:
        return self.host_s

    def wait(self, duration_s: float) -> None:
        self.host_s += duration_s

    def step(self, number: int) -> None:
        self.log.append(f"step {number}")
        start = max(self.host_s, self.device_s)
        self.device_s = start + STEP_S
        self.busy.append((start, self.device_s))
        self.host_s = max(self.host_s + STEP_S / 2, self.device_s - QUEUE * STEP_S)

    def synchronize(self) -> None:
        self.log.append("synchronize")
        self.host_s = max(self.host_s, self.device_s)

    def energy_j(self) -> Reading[float]:
        self.log.append("read")
        tick_s = math.floor(self.host_s / COUNTER_PERIOD_S) * COUNTER_PERIOD_S
        busy_s = sum(max(0.0, min(end, tick_s) - start) for start, end in self.busy)
        return Reading(1000 + IDLE_W * (tick_s - busy_s) + BUSY_W * busy_s)


def busy(gpu: Gpu) -> Reading[EnergyWindow]:
    return busy_window(gpu.energy_j, gpu.step, gpu.synchronize, now=gpu.now)


def idle(gpu: Gpu) -> Reading[EnergyWindow]:
    gpu.wait(1.0)
    return idle_window(gpu.energy_j, now=gpu.now, wait=gpu.wait)


def test_a_busy_window_holds_the_true_energy_within_its_uncertainty() -> None:
    window = busy(Gpu()).value
    assert window is not None
    assert window.window_s >= WINDOW_S
    assert window.window_s == pytest.approx(window.steps * STEP_S)
    assert window.uncertainty_j == pytest.approx(window.energy_j * COUNTER_PERIOD_S / window.window_s)
    assert abs(window.energy_j - BUSY_W * window.window_s) <= window.uncertainty_j


def test_nothing_but_steps_between_the_two_readings() -> None:
    gpu = Gpu()
    window = busy(gpu).value
    assert window is not None
    first = gpu.log.index("read")
    assert gpu.log[first - 1] == "synchronize"
    assert gpu.log[-2:] == ["synchronize", "read"]
    assert {entry.split()[0] for entry in gpu.log[first + 1 : -2]} == {"step"}
    assert len(gpu.log[first + 1 : -2]) == window.steps


def test_the_lead_in_is_no_part_of_the_window_and_steps_are_numbered_through() -> None:
    gpu = Gpu()
    busy(gpu)
    steps = [entry for entry in gpu.log if entry.startswith("step")]
    assert steps == [f"step {number}" for number in range(len(steps))]
    assert gpu.log.index("read") - 1 >= LEAD_IN_S / STEP_S


def test_one_step_longer_than_the_window_is_one_step() -> None:
    gpu = Gpu()

    def slow(number: int) -> None:
        gpu.step(number)
        gpu.wait(10 * WINDOW_S)

    window = busy_window(gpu.energy_j, slow, gpu.synchronize, now=gpu.now).value
    assert window is not None
    assert window.steps == 1


def test_gross_and_net_energy_of_a_step() -> None:
    gpu = Gpu()
    metrics = energy_metrics(busy(gpu), idle(gpu), tokens=10)
    for name, true_j in [
        ("energy_j", BUSY_W * STEP_S),
        ("net_energy_j", (BUSY_W - IDLE_W) * STEP_S),
        ("energy_per_token_j", BUSY_W * STEP_S / 10),
        ("net_energy_per_token_j", (BUSY_W - IDLE_W) * STEP_S / 10),
    ]:
        metric = metrics[name]
        assert metric.value == pytest.approx(true_j, rel=0.05)
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low <= true_j <= metric.high
    assert metrics["idle_power_w"].value == pytest.approx(IDLE_W, rel=0.05)
    assert metrics["energy_per_token_j"].unit == "J/token"
    assert metrics["energy_steps"].value == pytest.approx(WINDOW_S / STEP_S, abs=QUEUE + 1)


def test_a_window_ends_when_its_uncertainty_is_five_percent_and_not_within_a_second() -> None:
    assert (FLOOR_S, UNCERTAINTY) == (1.0, 0.05)
    assert [window_length_s(period_s) for period_s in (0.001, 0.05, 0.1, 0.5)] == pytest.approx([1, 1, 2, 10])
    gpu = Gpu()
    quick = busy_window(gpu.energy_j, gpu.step, gpu.synchronize, period_s=0.02, now=gpu.now).value
    assert quick is not None
    assert 1 <= quick.window_s < 1 + (QUEUE + 1) * STEP_S
    assert quick.uncertainty_j == pytest.approx(quick.energy_j * 0.02 / quick.window_s)


def test_the_period_of_the_counter_is_measured_or_taken_to_be_long() -> None:
    gpu = Gpu()
    assert counter_period(gpu.energy_j, now=gpu.now, wait=gpu.wait) == pytest.approx(
        COUNTER_PERIOD_S + POLL_S, abs=POLL_S
    )
    fine = counter_period(lambda: Reading(math.floor(gpu.host_s / 0.02)), now=gpu.now, wait=gpu.wait)
    assert 0.02 <= fine <= 0.02 + 2 * POLL_S
    for unknown in (lambda: Reading(1.0), lambda: Reading(None, "none")):
        start_s = gpu.now()
        assert counter_period(unknown, now=gpu.now, wait=gpu.wait) == COUNTER_PERIOD_S
        assert gpu.now() - start_s >= 1


def test_steps_run_for_other_readings_where_there_is_no_counter() -> None:
    gpu = Gpu()
    window = busy_window(lambda: Reading(None, "none"), gpu.step, gpu.synchronize, now=gpu.now)
    assert window == Reading(None, "none")
    assert len(gpu.log) * STEP_S >= FLOOR_S


def test_what_works_on_no_batch_has_no_energy_per_token() -> None:
    names = energy_metrics(busy(Gpu()), idle(Gpu()), tokens=None).keys()
    assert {"energy_j", "net_energy_j"} <= names
    assert not [name for name in names if "token" in name]


def test_net_scales_the_idle_window_to_the_busy_one() -> None:
    net = net_window(
        Reading(EnergyWindow(energy_j=600, uncertainty_j=20, window_s=3, steps=10)),
        Reading(EnergyWindow(energy_j=200, uncertainty_j=8, window_s=2, steps=0)),
    )
    assert net.value == EnergyWindow(energy_j=300, uncertainty_j=32, window_s=3, steps=10)


def test_what_is_not_available_has_its_reason() -> None:
    everything = energy_metrics(UNKNOWN, UNKNOWN, tokens=10)
    assert {(metric.value, metric.reason) for metric in everything.values()} == {(None, "why")}
    no_idle = energy_metrics(busy(Gpu()), UNKNOWN, tokens=10)
    assert no_idle["energy_j"].value is not None
    assert (no_idle["net_energy_j"].value, no_idle["net_energy_j"].reason) == (None, "no idle draw: why")


def test_a_counter_that_stands_still_is_no_energy_of_zero() -> None:
    gpu = Gpu()
    window = busy_window(lambda: Reading(5.0), gpu.step, gpu.synchronize, now=gpu.now)
    assert window == Reading(None, "the energy counter did not move in 2.2 s")


def test_a_counter_that_moves_by_little_is_energy() -> None:
    gpu, readings = Gpu(), iter([5.0, 5.25])
    window = busy_window(lambda: Reading(next(readings)), gpu.step, gpu.synchronize, now=gpu.now).value
    assert window is not None
    assert window.energy_j == 0.25


def test_a_counter_that_fails_at_either_end_is_a_reason() -> None:
    gpu = Gpu()
    readings: list[Reading[float]] = [Reading(1.0), Reading(None, "lost")]
    assert busy_window(lambda: readings.pop(0), gpu.step, gpu.synchronize, now=gpu.now) == Reading(None, "lost")
    assert idle_window(lambda: Reading(None, "none"), now=gpu.now, wait=gpu.wait).reason == "none"
