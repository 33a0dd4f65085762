import os
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
import torch

from peftbench.config.settings import Settings
from peftbench.errors import UserError
from peftbench.measure.energy.nvml import DeviceState, Nvml, Reading
from peftbench.measure.energy.throttle import SLOWDOWNS
from peftbench.measure.memory.device_memory import Parts, StepMemory
from peftbench.measure.probes import CpuProbes, CudaProbes, probes_for
from peftbench.measure.time.clock import Timing
from peftbench.measure.time.rounds import Rounds
from peftbench.measure.trial import Trial

SLOWDOWN = min(SLOWDOWNS)


def state(events: frozenset[str], *, sm_clock_mhz: int = 1500) -> DeviceState:
    return DeviceState(
        sm_clock_mhz=Reading(sm_clock_mhz),
        memory_clock_mhz=Reading(None, "not said"),
        application_sm_clock_mhz=Reading(None, "not said"),
        application_memory_clock_mhz=Reading(None, "not said"),
        power_limit_w=Reading(300.0),
        power_w=Reading(200.0),
        temperature_c=Reading(60),
        clock_events=Reading(events),
    )


class FakeNvml(Nvml):
    """A device whose states follow each other."""

    def __init__(self, *states: DeviceState) -> None:
        super().__init__(None, "not said")
        self._states: Iterator[DeviceState] = iter(states)

    def state(self) -> DeviceState:
        return next(self._states)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("peftbench.measure.probes.time.sleep", found.append)
    return found


def cuda_probes(*states: DeviceState) -> CudaProbes:
    made = CudaProbes(torch.device("cpu"))  # the device is not touched by what is tested here
    made._nvml = FakeNvml(*states)
    return made


def take(log: list[int]) -> Rounds:
    log.append(len(log))
    return Rounds(case=(Timing(float(len(log))),), reference=(), stop="rounds")


def test_rounds_of_a_throttled_device_are_taken_again(pauses: list[float]) -> None:
    hot, cool = state(frozenset({SLOWDOWN})), state(frozenset())
    log: list[int] = []
    rounds, found = cuda_probes(cool, hot, cool, cool).rounds(lambda: take(log))
    assert len(log) == 2
    assert rounds.case[0].wall_s == 2.0
    assert len(pauses) == 1
    assert found.warnings == ()
    assert found.metrics["sm_clock_mhz"].value == 1500
    assert found.metrics["memory_clock_mhz"].reason == "not said"


def test_a_device_that_stays_slow_is_said_so(pauses: list[float]) -> None:
    hot = state(frozenset({SLOWDOWN}))
    log: list[int] = []
    _, found = cuda_probes(*[hot] * 6).rounds(lambda: take(log))
    assert len(log) == 3
    assert len(pauses) == 2
    assert SLOWDOWN in found.warnings[0]


def test_the_probes_of_a_cpu_read_weights_and_resident_memory() -> None:
    cpu = probes_for(torch.device("cpu"), Settings())
    assert isinstance(cpu, CpuProbes)
    model = torch.nn.Linear(8, 4)
    found = cpu.memory(Trial(model=model, run=lambda _number, _mark: None))
    assert found["weights_bytes"].value == (8 * 4 + 4) * 4
    assert found["resident_bytes"].value
    assert cpu.fingerprint() == {}


def test_energy_is_refused_where_it_is_asked_for_and_there_is_no_counter() -> None:
    line = r"^--peftbench-energy=on: device cpu has no energy counter; leave the option out, or give off$"
    with pytest.raises(UserError, match=line):
        probes_for(torch.device("cpu"), Settings(energy="on"))


def test_energy_that_is_switched_off_takes_no_round() -> None:
    def never(number: int, mark: object) -> None:
        raise AssertionError(number, mark)

    probes = CudaProbes(torch.device("cpu"), energy=False)
    found = probes.energy(Trial(torch.nn.Linear(1, 1), never), tokens=None)
    assert found.metrics["energy_j"].reason == "switched off: --peftbench-energy=off"
    assert found.timeline is None


def test_a_window_of_steps_is_sampled_and_its_neighbours_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a device that lists two processes and has no counter: the steps run all the same."""

    class Listing(Nvml):
        def processes(self) -> Reading[Mapping[int, int | None]]:
            return Reading({1: None, os.getpid(): 77})

    monkeypatch.setattr("peftbench.measure.energy.window.FLOOR_S", 0.02)
    monkeypatch.setattr("peftbench.measure.energy.window.SETTLE_S", 0.0)
    monkeypatch.setattr("peftbench.measure.energy.window.LEAD_IN_PERIODS", 0)
    monkeypatch.setattr("peftbench.measure.probes._synchronize", lambda _: None)
    paces: list[torch.device] = []

    def paced(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
        paces.append(device)
        return step

    monkeypatch.setattr("peftbench.measure.probes.paced", paced)
    probes = CudaProbes(torch.device("cpu"), rate_hz=100.0)
    probes._nvml = Listing(None, "no counter")
    steps: list[int] = []

    def step(number: int, mark: object) -> None:
        del mark
        steps.append(number)
        time.sleep(0.005)

    trial = Trial(torch.nn.Linear(1, 1), step)
    found = probes.energy(trial, tokens=8)
    assert len(steps) > 1
    assert paces == [torch.device("cpu")]
    assert found.metrics["energy_j"].reason == "no counter"
    assert (found.metrics["process_peak_bytes"].value, found.metrics["neighbours"].value) == (77, 1)
    assert "1 other compute process(es)" in found.warnings[0]
    assert found.timeline
    probes.beside = 1
    assert probes.energy(trial, tokens=8).warnings == ()


def test_a_round_without_tokens_has_no_energy_per_token() -> None:
    probes = cuda_probes()
    probes._idle = Reading(None, "not said")
    trial = Trial(model=torch.nn.Linear(1, 1), run=lambda _number, _mark: None, prepare=lambda _: None)
    assert "energy_per_token_j" in probes.energy(trial, tokens=8).metrics
    assert "energy_per_token_j" not in probes.energy(trial, tokens=None).metrics


def test_the_memory_pass_begins_with_an_empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes before it left there would count as reserved by the step."""
    log: list[str] = []
    memory = StepMemory(Parts(1, 1, 1), 2, 3, Reading(4), Reading(None, "not said"))

    def measured(*_: object) -> StepMemory:
        log.append("measured")
        return memory

    monkeypatch.setattr("peftbench.measure.probes.release", lambda device: log.append(f"released {device}"))
    monkeypatch.setattr("peftbench.measure.probes.step_memory", measured)
    trial = Trial(model=torch.nn.Linear(1, 1), run=lambda _number, _mark: None)
    assert cuda_probes().memory(trial)["peak_reserved_bytes"].value == 3
    assert log == ["released cpu", "measured"]
