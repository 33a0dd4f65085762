"""Readings of a GPU's driver. Only this module calls NVML, and never inside a timed round."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from peftbench.measure.energy.clock_events import clock_event_names
from peftbench.records.record import Better, Metric

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
U = TypeVar("U")

CLOCK_SM: Final = 1
CLOCK_MEMORY: Final = 2
TEMPERATURE_GPU: Final = 0
MEMORY_V2: Final = 0x02000028
"""Constants of NVML's binary interface; they never change. Version 2 separates reserved memory from used memory."""

SHARED_GPU: Final = "a MIG instance has no counter of its own: power is measured for the whole GPU"


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """A value, or the reason why it is not available. An unknown value is None, never 0."""

    value: T | None
    reason: str = ""

    def map(self, function: Callable[[T], U]) -> Reading[U]:
        """Return the reading with `function` applied to its value."""
        return Reading(None, self.reason) if self.value is None else Reading(function(self.value))


def sampled(reading: Reading[int] | Reading[float], unit: str, better: Better = "neither") -> Metric:
    """Return the metric of a reading, with the reason where there is no value."""
    return Metric(reading.value, unit, better, "sampled", reason=reading.reason)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of a device (or MIG instance), summed over all its processes."""

    used_bytes: Reading[int]
    """Used bytes, without those that the driver reserves."""
    reserved_bytes: Reading[int]
    total_bytes: Reading[int]


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Conditions of a GPU that affect its speed, at one moment. For a MIG instance it is the GPU that holds it."""

    sm_clock_mhz: Reading[int]
    memory_clock_mhz: Reading[int]
    application_sm_clock_mhz: Reading[int]
    application_memory_clock_mhz: Reading[int]
    power_limit_w: Reading[float]
    power_w: Reading[float]
    temperature_c: Reading[int]
    clock_events: Reading[frozenset[str]]
    """Names of the clock events that are on (`CLOCK_EVENTS`)."""


class Nvml:
    """One device as NVML sees it; use it as a context manager.

    Every method that reads returns a `Reading`. If a library, driver, function or permission is missing, the reading
    holds the reason; no exception is raised.

    Args:
        uuid: The device's UUID, with or without its prefix (`GPU-`, `MIG-`). It is no index, which would name another
            device under CUDA_VISIBLE_DEVICES. None: there is no device.
        absent: Why there is no device.
    """

    def __init__(self, uuid: str | None, absent: str = "no CUDA device") -> None:
        self._uuid = uuid
        self._reason = absent
        self._library: Any = None
        self._device: Any = None
        self._gpu: Any = None

    @classmethod
    def of(cls, device: torch.device) -> Self:
        """Return a torch device as NVML sees it. For the CPU no reading is available."""
        if device.type != "cuda":
            return cls(None, f"device {device} is no CUDA device")
        import torch

        return cls(str(torch.cuda.get_device_properties(device).uuid))

    def __enter__(self) -> Self:
        if self._uuid is not None:
            try:
                self._start()
                self._open(self._uuid)
            except _NotAvailableError as error:
                self._reason = str(error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._library is not None:
            with suppress(_NotAvailableError):
                self._call("nvmlShutdown")
        self._library = self._device = self._gpu = None
        self._reason = "NVML is closed"

    @property
    def is_mig(self) -> bool:
        """Whether the device is a MIG instance, a part of a GPU."""
        return self._device is not self._gpu

    def driver_version(self) -> Reading[str]:
        """Return the version of the NVIDIA driver."""
        return self._read("nvmlSystemGetDriverVersion")

    def ecc(self) -> Reading[bool]:
        """Return whether error correction (ECC) of the memory is on, which costs bandwidth on some devices."""
        modes: Reading[list[int]] = self._read("nvmlDeviceGetEccMode", self._gpu)
        return modes.map(lambda current_and_pending: bool(current_and_pending[0]))

    def memory(self) -> DeviceMemory:
        """Return the memory of the device."""
        info: Reading[Any] = self._read("nvmlDeviceGetMemoryInfo", self._device, MEMORY_V2)
        return DeviceMemory(
            used_bytes=info.map(lambda memory: int(memory.used)),
            reserved_bytes=info.map(lambda memory: int(memory.reserved)),
            total_bytes=info.map(lambda memory: int(memory.total)),
        )

    def process_bytes(self) -> Reading[int]:
        """Return the bytes that this process holds on the device: CUDA context, libraries and allocator together.

        The call takes milliseconds and a lock of the driver.
        """
        return bytes_of(self.processes())

    def processes(self) -> Reading[Mapping[int, int | None]]:
        """Return the compute processes on the device: process id -> bytes, or None where the driver does not say."""
        found: Reading[list[Any]] = self._read("nvmlDeviceGetComputeRunningProcesses", self._device)
        return found.map(lambda listed: {int(one.pid): int(one.usedGpuMemory or 0) or None for one in listed})

    def mps_clients(self) -> Reading[int]:
        """Return the number of processes that share the device by MPS."""
        clients: Reading[list[Any]] = self._read("nvmlDeviceGetMPSComputeRunningProcesses", self._gpu)
        return clients.map(len)

    def utilization(self) -> Reading[float]:
        """Return the share of the driver's last sampling period in which a kernel ran."""
        rates: Reading[Any] = self._read("nvmlDeviceGetUtilizationRates", self._gpu)
        return rates.map(lambda found: found.gpu / 100)

    def power_w(self) -> Reading[float]:
        """Return the power of the whole GPU. Newer GPUs report the mean of a second."""
        return self._of_whole_gpu("nvmlDeviceGetPowerUsage").map(_thousandth)

    def sm_clock_mhz(self) -> Reading[int]:
        """Return the clock of the multiprocessors."""
        return self._read("nvmlDeviceGetClockInfo", self._gpu, CLOCK_SM)

    def temperature_c(self) -> Reading[int]:
        """Return the temperature of the GPU."""
        return self._read("nvmlDeviceGetTemperature", self._gpu, TEMPERATURE_GPU)

    def energy_j(self) -> Reading[float]:
        """Return the joules since the driver was loaded. The counter moves about every 100 ms."""
        return self._of_whole_gpu("nvmlDeviceGetTotalEnergyConsumption").map(_thousandth)

    def state(self) -> DeviceState:
        """Return clocks, power, temperature, and the events that lower the clocks."""
        gpu = self._gpu
        return DeviceState(
            sm_clock_mhz=self.sm_clock_mhz(),
            memory_clock_mhz=self._read("nvmlDeviceGetClockInfo", gpu, CLOCK_MEMORY),
            application_sm_clock_mhz=self._read("nvmlDeviceGetApplicationsClock", gpu, CLOCK_SM),
            application_memory_clock_mhz=self._read("nvmlDeviceGetApplicationsClock", gpu, CLOCK_MEMORY),
            power_limit_w=self._read("nvmlDeviceGetEnforcedPowerLimit", gpu).map(_thousandth),
            power_w=self.power_w(),
            temperature_c=self.temperature_c(),
            clock_events=self._clock_events().map(clock_event_names),
        )

    def _clock_events(self) -> Reading[int]:
        events: Reading[int] = self._read("nvmlDeviceGetCurrentClocksEventReasons", self._gpu)
        if events.value is not None:
            return events
        before_535: Reading[int] = self._read("nvmlDeviceGetCurrentClocksThrottleReasons", self._gpu)
        return events if before_535.value is None else before_535

    def _of_whole_gpu(self, name: str) -> Reading[int]:
        return Reading(None, SHARED_GPU) if self.is_mig else self._read(name, self._gpu)

    def _start(self) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise _NotAvailableError(f"{error}: install nvidia-ml-py") from error
        self._library = pynvml
        try:
            self._call("nvmlInit")
        except _NotAvailableError:
            self._library = None
            raise

    def _open(self, uuid: str) -> None:
        """Find the device, and the GPU that holds it if it is a MIG instance."""
        handle = self._handle(uuid)
        if not self._is_mig_instance(handle) and self._is_split(handle):
            handle = self._handle(_visible_mig_uuid())
        self._gpu = self._device = handle
        if self._is_mig_instance(handle):
            self._gpu = self._call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)

    def _handle(self, uuid: str) -> Any:  # noqa: ANN401 - an opaque handle
        """Return the handle of a device. CUDA's UUIDs lack the prefix that NVML needs, so both prefixes are tried."""
        prefixes = [""] if uuid.startswith(("GPU-", "MIG-")) else ["GPU-", "MIG-"]
        reason = ""
        for prefix in prefixes:
            try:
                return self._call("nvmlDeviceGetHandleByUUID", prefix + uuid)
            except _NotAvailableError as error:
                reason = str(error)
        raise _NotAvailableError(f"device {uuid}: {reason}")

    def _is_mig_instance(self, handle: object) -> bool:
        try:
            return bool(self._call("nvmlDeviceIsMigDeviceHandle", handle).value)
        except _NotAvailableError:  # a driver that is older than MIG
            return False

    def _is_split(self, handle: object) -> bool:
        try:
            current, _ = self._call("nvmlDeviceGetMigMode", handle)
        except _NotAvailableError:  # a GPU without MIG
            return False
        return bool(current)

    def _read(self, name: str, *arguments: Any) -> Reading[Any]:  # noqa: ANN401 - handles and numbers
        if self._gpu is None:
            return Reading(None, self._reason)
        try:
            return Reading(self._call(name, *arguments))
        except _NotAvailableError as error:
            return Reading(None, str(error))

    def _call(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401 - whatever the function returns
        library = self._library
        try:
            return getattr(library, name)(*arguments)
        except (library.NVMLError_FunctionNotFound, library.NVMLLibraryMismatchError, AttributeError) as error:
            raise _NotAvailableError(f"this driver or nvidia-ml-py has no {name}") from error
        except library.NVMLError as error:
            raise _NotAvailableError(f"{name}: {error}") from error


class _NotAvailableError(Exception):
    """A value is not available. Its message becomes the reason of a `Reading`."""


def bytes_of(processes: Reading[Mapping[int, int | None]]) -> Reading[int]:
    """Return the bytes of this process among the compute processes of a device."""
    if processes.value is None:
        return Reading(None, processes.reason)
    pid = os.getpid()
    if pid not in processes.value:
        return Reading(None, f"NVML does not list process {pid}: a container with process ids of its own?")
    mine = processes.value[pid]
    return Reading(mine) if mine else Reading(None, "the driver does not say how much a process holds")


def _visible_mig_uuid() -> str:
    """Return the UUID of the MIG instance in CUDA_VISIBLE_DEVICES. A process sees one instance at most.

    Raises:
        _NotAvailableError: the variable names no MIG instance.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if not first.startswith("MIG-"):
        raise _NotAvailableError("the GPU is split by MIG, and CUDA_VISIBLE_DEVICES names no instance")
    return first


def _thousandth(milli: int) -> float:
    return milli / 1000
