"""NVML through a stand-in for the driver's library, compiled once, so that the real ctypes path runs without a GPU."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from peftbench.gate.accept import AcceptRequest, accept
from peftbench.gate.format import to_text
from peftbench.gate.snapshot import snapshot_of
from peftbench.measure.energy import nvml as nvml_module
from peftbench.measure.energy.clock_events import clock_event_names
from peftbench.measure.energy.nvml import SHARED_GPU, Nvml, Reading, sampled
from peftbench.records.record import Launch, Metric, Record, Run

SOURCE = Path(__file__).with_name("nvml_standin.c")


@dataclass(frozen=True)
class StandIn:
    """Runs Python code in a process that finds the stand-in where the driver's library would be."""

    new: Path
    old: Path

    def run(self, code: str, *, old_driver: bool = False, **env: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the JSON that `code` prints."""
        folder = self.old if old_driver else self.new
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "LD_LIBRARY_PATH": str(folder), **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def nvml_standin(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc or clang) to build the NVML stand-in with")
    if sys.platform != "linux":
        pytest.skip("the NVML stand-in is a Linux library")
    folders = []
    for name, flags in (("new", []), ("old", ["-DOLD_DRIVER"])):
        folder = tmp_path_factory.mktemp(f"nvml-{name}")
        target = folder / "libnvidia-ml.so.1"
        subprocess.run([compiler, "-shared", "-fPIC", "-O0", *flags, "-o", target, SOURCE], check=True)
        folders.append(folder)
    return StandIn(*folders)


FIRST, SECOND, SPLIT = (f"00000000-0000-0000-0000-00000000{letter * 4}" for letter in "abc")
MIG = "00000000-0000-0000-0000-00000000dddd"

DUMP = """
import json
from dataclasses import fields
from peftbench.measure.energy.nvml import Nvml

def readings(name, thing):
    if hasattr(thing, "reason"):
        value = sorted(thing.value) if isinstance(thing.value, frozenset) else thing.value
        return {name: [value, thing.reason]}
    return {field.name: readings(field.name, getattr(thing, field.name))[field.name] for field in fields(thing)}

with Nvml(%r) as nvml:
    all = {"is_mig": nvml.is_mig}
    for name in ("driver_version", "ecc", "memory", "process_bytes", "energy_j", "state"):
        all.update(readings(name, getattr(nvml, name)()))
print(json.dumps(all))
"""


def dump(standin: StandIn, uuid: str, *, old_driver: bool = False, **env: str) -> dict[str, Any]:
    result: dict[str, Any] = standin.run(DUMP % uuid, old_driver=old_driver, **env)
    return result


def test_a_gpu_is_read_in_the_units_that_the_names_say(nvml_standin: StandIn) -> None:
    assert dump(nvml_standin, FIRST, NVML_PROCESS="123456", NVML_EVENTS="0x25") == {
        "is_mig": False,
        "driver_version": ["999.01", ""],
        "ecc": [True, ""],
        "used_bytes": [2000, ""],
        "reserved_bytes": [500, ""],
        "total_bytes": [80000, ""],
        "process_bytes": [123456, ""],
        "energy_j": [5000.0, ""],
        "sm_clock_mhz": [1000, ""],
        "memory_clock_mhz": [2000, ""],
        "application_sm_clock_mhz": [1100, ""],
        "application_memory_clock_mhz": [2200, ""],
        "power_limit_w": [400.5, ""],
        "power_w": [123.4, ""],
        "temperature_c": [60, ""],
        "clock_events": [["idle", "power cap", "thermal slowdown (software)"], ""],
    }


def test_the_uuid_finds_the_second_gpu(nvml_standin: StandIn) -> None:
    assert dump(nvml_standin, SECOND)["sm_clock_mhz"] == [1001, ""]
    assert dump(nvml_standin, f"GPU-{SECOND}")["sm_clock_mhz"] == [1001, ""]


@pytest.mark.parametrize(
    ("process", "reason"),
    [("unlisted", "NVML does not list process"), ("unknown", "does not say how much"), ("0", "does not say how much")],
)
def test_process_memory_that_is_not_known_is_no_zero(nvml_standin: StandIn, process: str, reason: str) -> None:
    value, why = dump(nvml_standin, FIRST, NVML_PROCESS=process)["process_bytes"]
    assert value is None
    assert reason in why


def test_a_mig_instance_has_memory_of_its_own_and_the_clocks_of_its_gpu(nvml_standin: StandIn) -> None:
    instance = dump(nvml_standin, MIG, NVML_PROCESS="99")
    assert instance["is_mig"]
    assert instance["total_bytes"] == [10000, ""]
    assert instance["process_bytes"] == [99, ""]
    assert instance["sm_clock_mhz"] == [1002, ""]
    assert instance["temperature_c"] == [60, ""]
    assert instance["energy_j"] == instance["power_w"] == [None, SHARED_GPU]


def test_a_split_gpu_is_not_taken_for_the_instance(nvml_standin: StandIn) -> None:
    """An old CUDA gives the UUID of the GPU that holds the instance."""
    visible = dump(nvml_standin, SPLIT, CUDA_VISIBLE_DEVICES=f"MIG-{MIG}")
    assert visible["total_bytes"] == [10000, ""]
    unknown = dump(nvml_standin, SPLIT, CUDA_VISIBLE_DEVICES="0")
    assert unknown["total_bytes"] == [None, "the GPU is split by MIG, and CUDA_VISIBLE_DEVICES names no instance"]


def test_an_old_driver_lacks_functions_and_nothing_else(nvml_standin: StandIn) -> None:
    old = dump(nvml_standin, FIRST, old_driver=True, NVML_EVENTS="0x40")
    for name, function in [
        ("used_bytes", "nvmlDeviceGetMemoryInfo"),
        ("process_bytes", "nvmlDeviceGetComputeRunningProcesses"),
        ("energy_j", "nvmlDeviceGetTotalEnergyConsumption"),
    ]:
        assert old[name] == [None, f"this driver or nvidia-ml-py has no {function}"]
    assert old["temperature_c"] == [60, ""]
    assert old["clock_events"] == [["thermal slowdown (hardware)"], ""]


def test_an_error_is_a_reason_and_the_other_readings_go_on(nvml_standin: StandIn) -> None:
    lost = dump(nvml_standin, FIRST, NVML_FAIL="nvmlDeviceGetTemperature=15,nvmlDeviceGetEccMode=3,nvmlShutdown=999")
    assert lost["temperature_c"] == [None, "nvmlDeviceGetTemperature: GPU is lost"]
    assert lost["ecc"] == [None, "nvmlDeviceGetEccMode: Not Supported"]
    assert lost["power_limit_w"] == [400.5, ""]


@pytest.mark.parametrize(
    ("uuid", "failing", "reason"),
    [
        (FIRST, "nvmlInitWithFlags=9", "nvmlInit: Driver Not Loaded"),
        (FIRST, "nvmlInitWithFlags=18", "nvmlInit: RM has detected an NVML/RM version mismatch."),
        ("no-such", "", "device no-such: nvmlDeviceGetHandleByUUID: Not Found"),
    ],
)
def test_a_device_that_cannot_be_opened_says_why_everywhere(
    nvml_standin: StandIn, uuid: str, failing: str, reason: str
) -> None:
    everything = dump(nvml_standin, uuid, NVML_FAIL=failing)
    assert everything.pop("is_mig") is False
    assert set(map(tuple, everything.values())) == {(None, reason)}


class WithoutMig:
    """The bindings on a GPU that cannot be split."""

    class NVMLError(Exception):
        pass

    class NVMLError_FunctionNotFound(NVMLError):  # noqa: N801, N818 - as NVML spells it
        pass

    class NVMLLibraryMismatchError(Exception):
        pass

    def nvmlDeviceGetMigMode(self, handle: object) -> None:  # noqa: N802 - as NVML spells it
        raise self.NVMLError(f"Not Supported: {handle}")


def test_a_gpu_that_cannot_be_split_is_none_that_is() -> None:
    nvml = Nvml(None)
    nvml._library = WithoutMig()
    assert not nvml._is_split("handle")


def test_the_constants_are_those_of_the_bindings() -> None:
    pynvml = pytest.importorskip("pynvml")
    ours = (nvml_module.CLOCK_SM, nvml_module.CLOCK_MEMORY, nvml_module.TEMPERATURE_GPU, nvml_module.MEMORY_V2)
    names = ("NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_TEMPERATURE_GPU", "nvmlMemory_v2")
    assert ours == tuple(getattr(pynvml, name) for name in names)


def test_the_energy_counter_advances(nvml_standin: StandIn) -> None:
    code = f"""
import json
from peftbench.measure.energy.nvml import Nvml
with Nvml({FIRST!r}) as nvml:
    print(json.dumps([nvml.energy_j().value for _ in range(3)]))
"""
    assert nvml_standin.run(code, NVML_STEP_MJ="1500") == [5000.0, 5001.5, 5003.0]


SAMPLED = f"""
import json, time
from functools import partial
from peftbench.measure.energy.nvml import Nvml
from peftbench.measure.energy.sampler import Sampler, most_processes, nvml_sample, sample_metrics, timeline
from peftbench.measure.energy.sharing import look_for_others
with Nvml({FIRST!r}) as nvml:
    with Sampler(partial(nvml_sample, nvml), 50.0) as sampler:
        while len(sampler.samples) < 8: time.sleep(0.005)
    seen = len(sampler.samples)
    time.sleep(0.05)
    others = look_for_others(nvml, reserved_bytes=1000)
    beside = look_for_others(nvml, reserved_bytes=1000, beside=1)
print(json.dumps({{
    "stopped": seen == len(sampler.samples), "times": [at_s for at_s, _ in sampler.samples],
    "metrics": {{name: [one.value, one.reason] for name, one in sample_metrics(sampler.samples).items()}},
    "timeline": timeline(sampler.samples), "processes": most_processes(sampler.samples),
    "neighbours": [others.neighbours, beside.neighbours], "shared": [others.shared, beside.shared],
    "warnings": others.warnings, "foreign": others.foreign_bytes,
}}))
"""


def test_a_sampler_reads_the_driver_at_its_rate_until_its_window_ends(nvml_standin: StandIn) -> None:
    found = nvml_standin.run(SAMPLED, NVML_PROCESS="123456", NVML_STEP_MW="1000")
    count = len(found["times"])
    assert found["stopped"]
    assert all(second - first > 0.01 for first, second in itertools.pairwise(found["times"]))
    metrics = found["metrics"]
    assert metrics["power_peak_w"][0] == pytest.approx(123.4 + count - 1)
    assert metrics["power_mean_w"][0] == pytest.approx(123.4 + (count - 1) / 2)
    assert metrics["utilization_peak"] == metrics["utilization_mean"] == [0.87, ""]
    assert metrics["process_peak_bytes"] == [123456, ""]
    assert metrics["device_mean_bytes"] == [2000, ""]
    assert metrics["nvml_samples"] == [count, ""]
    line = found["timeline"]
    assert {len(series) for series in line.values()} == {count}
    assert line["power_w"] == pytest.approx([123.4 + number for number in range(count)])
    assert line["process_bytes"] == [123460] * count  # five digits, and known at each point
    assert found["processes"] == 2


def assert_no_baseline_of_its_times(warnings: list[str]) -> None:
    """Accept a record with these warnings, and look for its launch and that of its reference in the baseline."""
    launch = Launch("s", rounds=40, time_s=0.01, reference_s=0.008, x=0.2, anchor_s=0.001)
    record = Record("train_step[a-nli-bs8]", "train_step", "a", "nli", 8, 32, "ok", launches=(launch,))
    record = replace(record, metrics={"flops": Metric(1000, "FLOP")}, warnings=tuple(warnings))
    accepted = accept(None, snapshot_of(Run({}, {}, (record,))), AcceptRequest("first"))
    assert accepted.untimed == (record.id,)
    assert '"x":{},"n":40,"ms":null,"c":[1000]' in to_text(accepted.baseline)
    assert (accepted.baseline.references, accepted.baseline.sessions) == ({}, {})


def test_others_on_the_device_are_seen_and_a_state_in_lock_step_is_none_of_them(nvml_standin: StandIn) -> None:
    one = nvml_standin.run(SAMPLED, NVML_PROCESS="1000")
    assert (one["neighbours"], one["shared"]) == ([1, 0], [True, False])
    assert "1 other compute process(es) ran on it" in one["warnings"][0]
    assert_no_baseline_of_its_times(one["warnings"])
    alone = nvml_standin.run(SAMPLED, NVML_PROCESS="1000", NVML_OTHERS="0")
    assert (alone["neighbours"], alone["shared"], alone["warnings"]) == ([0, 0], [False, False], [])
    contained = nvml_standin.run(SAMPLED, NVML_PROCESS="unlisted", NVML_OTHERS="3", NVML_MPS="2")
    assert contained["neighbours"] == [2, 1]  # one of the three is this process, under another id
    assert [line.partition(":")[0] for line in contained["warnings"]] == ["shared GPU"] * 2
    assert "MPS divides it among 2" in contained["warnings"][1]
    empty = nvml_standin.run(SAMPLED, NVML_PROCESS="unlisted", NVML_OTHERS="0")
    assert (empty["neighbours"], empty["shared"]) == ([None, None], [False, False])  # it is there, and not listed
    hidden = nvml_standin.run(SAMPLED, NVML_PROCESS="1000", NVML_OTHERS="0", NVML_USED="5000000000")
    assert hidden["warnings"] == ["shared GPU: 4.7 GiB of its memory are held by others"]
    failing = nvml_standin.run(SAMPLED, NVML_FAIL="nvmlDeviceGetComputeRunningProcesses_v3=4,nvmlDeviceGetPowerUsage=3")
    assert (failing["neighbours"], failing["processes"], failing["shared"]) == ([None, None], None, [False, False])
    assert failing["metrics"]["power_peak_w"] == [None, "nvmlDeviceGetPowerUsage: Not Supported"]
    assert "power_w" not in failing["timeline"]


def test_energy_and_slowdown_come_from_the_driver(nvml_standin: StandIn) -> None:
    code = f"""
import itertools, json
from peftbench.measure.energy.window import busy_window
from peftbench.measure.energy.nvml import Nvml
from peftbench.measure.energy.throttle import Patience, decide
ticks = itertools.count()
with Nvml({FIRST!r}) as nvml:
    before = nvml.state()
    window = busy_window(nvml.energy_j, lambda number: None, lambda: None, now=lambda: float(next(ticks))).value
    decision = decide(before, nvml.state(), attempt=1, patience=Patience())
print(json.dumps([window.energy_j, window.window_s, decision.again]))
"""
    assert nvml_standin.run(code, NVML_STEP_MJ="1500", NVML_EVENTS="0x8") == [1.5, 4.0, True]
    assert nvml_standin.run(code, NVML_STEP_MJ="1500", NVML_EVENTS="0x4") == [1.5, 4.0, False]


def test_without_a_driver_there_is_a_reason(tmp_path: Path) -> None:
    code = f"from peftbench.measure.energy.nvml import Nvml\nwith Nvml({FIRST!r}) as nvml: print(nvml.energy_j())"
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "Reading(value=None, reason='nvmlInit: NVML Shared Library Not Found')"


def test_without_the_bindings_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with Nvml(FIRST) as nvml:
        assert nvml.driver_version().value is None
        assert nvml.driver_version().reason.endswith("install nvidia-ml-py")


def test_the_cpu_has_nothing_to_read() -> None:
    with Nvml.of(torch.device("cpu")) as nvml:
        assert nvml.energy_j() == Reading(None, "device cpu is no CUDA device")
        assert nvml.state().clock_events == Reading(None, "device cpu is no CUDA device")


def test_the_uuid_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Index 0 of torch is any GPU of the machine under CUDA_VISIBLE_DEVICES."""
    properties = {torch.device("cuda", 0): SimpleNamespace(uuid=SECOND)}
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties.__getitem__)
    assert Nvml.of(torch.device("cuda", 0))._uuid == SECOND


def test_clock_events_are_decoded_bit_by_bit() -> None:
    assert clock_event_names(0) == frozenset()
    assert clock_event_names(0x4) == {"power cap"}
    assert clock_event_names(0xC8) == {
        "hardware slowdown",
        "thermal slowdown (hardware)",
        "power brake (hardware)",
    }
    assert clock_event_names(0x10001) == {"idle", "0x10000"}


def test_a_reading_becomes_a_metric_with_its_reason() -> None:
    assert sampled(Reading(3), "B") == Metric(3, "B", "neither", "sampled")
    unknown: Reading[int] = Reading(None, "why")
    assert sampled(unknown, "B", "lower") == Metric(None, "B", "lower", "sampled", reason="why")


def test_nothing_else_imports_pynvml() -> None:
    sources = Path(__file__).parents[4].joinpath("src").rglob("*.py")
    assert [source.name for source in sources if "pynvml" in source.read_text()] == ["nvml.py"]
