"""The capture of a function, with a stand-in for `torch.cuda` that records what happens on which stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import pytest
import torch

from peftbench.devices.graphs import CapturedGraph, capture
from peftbench.errors import UnsupportedError

DEVICE = torch.device("cuda", 0)


@dataclass
class Lane:
    name: str
    waited_for: list[str] = field(default_factory=list)

    def wait_stream(self, other: Lane) -> None:
        self.waited_for.append(other.name)


@dataclass
class Graph:
    cuda: Cuda
    work: list[str] = field(default_factory=list)

    def replay(self) -> None:
        self.cuda.log += self.work

    def reset(self) -> None:
        self.work.clear()


@dataclass
class Generator:
    states: int = 0

    def clone_state(self) -> int:
        return self.states + 1

    def graphsafe_set_state(self, state: int) -> None:
        self.states = state


@dataclass
class Cuda:
    """Work is a word in the log, or in the graph while it is captured. Waiting in a capture breaks its end, too."""

    log: list[str] = field(default_factory=list)
    stream_now: Lane = field(default_factory=lambda: Lane("main"))
    capturing: Graph | None = None
    debug: int | str = 0
    broken: bool = False
    reserved: int = 1000
    default_generators: tuple[Generator, ...] = field(default_factory=lambda: (Generator(),))
    pools: dict[int, str] = field(default_factory=dict)
    is_current_stream_capturing: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self.is_current_stream_capturing = lambda: self.capturing is not None

    def device(self, device: torch.device) -> AbstractContextManager[None]:
        assert device == DEVICE
        return nullcontext()

    def Stream(self) -> Lane:  # noqa: N802 - torch's name
        return Lane("side")

    def CUDAGraph(self) -> Graph:  # noqa: N802 - torch's name
        return Graph(self)

    def current_stream(self) -> Lane:
        return self.stream_now

    @contextmanager
    def stream(self, stream: Lane) -> Iterator[None]:
        before, self.stream_now = self.stream_now, stream
        try:
            yield
        finally:
            self.stream_now = before

    @contextmanager
    def graph(self, graph: Graph, *, pool: int, stream: Lane) -> Iterator[None]:
        """As torch's: where the end of the capture fails, neither the stream is put back nor the allocator told."""
        self.stream_now, self.capturing = stream, graph
        self.pools[pool] = "filling"
        try:
            yield
        finally:
            self.capturing = None
            self.reserved += 512
            if self.broken:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
            self.pools[pool] = "in use"

    def graph_pool_handle(self) -> int:
        return len(self.pools)

    def end_allocate(self, index: int, pool: int) -> None:
        if index != DEVICE.index or self.pools[pool] != "filling":
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.pools[pool] = "in use"

    def release(self, index: int, pool: int) -> None:
        assert (index, self.pools[pool]) == (DEVICE.index, "in use")
        self.pools[pool] = "free"

    def synchronize(self) -> None:
        assert self.capturing is None

    def empty_cache(self) -> None:
        assert "filling" not in self.pools.values()  # torch's own assertion: captures_underway.empty()
        self.log.append("emptied")

    def memory_reserved(self) -> int:
        return self.reserved

    def get_sync_debug_mode(self) -> int | str:
        return self.debug

    def set_sync_debug_mode(self, mode: int | str) -> None:
        self.debug = mode

    def work(self, word: str) -> None:
        assert self.stream_now.name == "side" or self.capturing is None
        (self.log if self.capturing is None else self.capturing.work).append(word)

    def wait(self) -> None:
        if self.debug == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        if self.capturing is not None:
            self.broken = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")


@pytest.fixture(autouse=True)
def _alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftbench.devices.graphs.context_is_alive", lambda _: True)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """A device whose allocator is told in torch's private way, too."""
    cuda = Cuda()
    for name, function in (("_cuda_endAllocateToPool", cuda.end_allocate), ("_cuda_releasePool", cuda.release)):
        monkeypatch.setattr(torch._C, name, function, raising=False)
    return cuda


def test_a_graph_has_a_workspace_of_its_own_that_nobody_frees(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace from before the capture would be freed between two cases, and the graph go on to write there."""
    cuda = Cuda()
    monkeypatch.setattr("peftbench.devices.graphs.clear_cublas_workspaces", lambda: cuda.log.append("cleared"))
    found = taken(cuda, lambda: cuda.work("product"))
    assert cuda.log == ["product"] * 3 + ["cleared", "emptied", "cleared"]
    found.replay()
    assert cuda.log[-1] == "product"


def taken(cuda: Cuda, body: Callable[[], object]) -> CapturedGraph:
    return capture(body, DEVICE, cuda=cuda)


def test_the_work_is_warmed_up_captured_once_and_replayed_without_the_host() -> None:
    cuda = Cuda()
    calls: list[tuple[str, bool, int | str]] = []

    def body() -> None:
        calls.append((cuda.stream_now.name, cuda.is_current_stream_capturing(), cuda.debug))
        cuda.work("kernel")

    found = taken(cuda, body)
    assert calls == [("side", False, 0), ("side", True, 0), ("side", True, "error"), ("side", True, 0)]
    assert cuda.log == ["kernel", "kernel", "kernel", "emptied"]
    assert (cuda.stream_now.name, cuda.debug, cuda.is_current_stream_capturing()) == ("main", 0, False)
    assert cuda.stream_now.waited_for == ["side"]
    found.replay()
    assert len(calls) == 4
    assert cuda.log[-2:] == ["emptied", "kernel"]
    assert found.pool_bytes == 512
    assert found.capture_s > 0
    found.reset()
    found.replay()
    assert cuda.log[-1] == "kernel"
    assert len(cuda.log) == 5


def test_a_library_that_asks_may_leave_its_look_at_the_device_out() -> None:
    """As transformers does for a mask that hides nothing."""
    cuda = Cuda()

    def body() -> None:
        if not cuda.is_current_stream_capturing():
            cuda.wait()
        cuda.work("kernel")

    taken(cuda, body).replay()
    assert cuda.log[-1] == "kernel"


def test_a_wait_is_found_before_the_capture_and_named_with_its_place() -> None:
    cuda = Cuda()

    def body() -> None:
        cuda.work("kernel")
        cuda.wait()

    with pytest.raises(UnsupportedError, match=r"^CUDA graph: the round waits for the device \(test_graphs\.py:\d+\)$"):
        taken(cuda, body)
    assert "emptied" not in cuda.log
    assert (cuda.stream_now.name, cuda.debug, cuda.is_current_stream_capturing()) == ("main", 0, False)
    assert cuda.default_generators[0].states == 0


def test_a_capture_that_fails_says_its_first_error_and_leaves_stream_generator_and_allocator_usable(cuda: Cuda) -> None:
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        if len(calls) == 4:
            cuda.wait()

    with pytest.raises(UnsupportedError) as caught:
        taken(cuda, body)
    assert str(caught.value).startswith("CUDA graph: RuntimeError: CUDA error: operation not permitted when stream is ")
    assert "\n" not in str(caught.value)
    assert (cuda.stream_now.name, cuda.capturing) == ("main", None)
    assert cuda.default_generators[0].states == 1
    assert cuda.pools == {0: "free"}
    cuda.empty_cache()
    cuda.broken = False
    taken(cuda, lambda: cuda.work("kernel")).replay()
    assert cuda.pools[1] == "in use"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: device-side assert triggered"),
    ],
)
@pytest.mark.parametrize("call", [1, 4])
@pytest.mark.parametrize("broken", [False, True])
def test_memory_and_a_lost_context_stay_what_they_are(
    error: RuntimeError, call: int, cuda: Cuda, *, broken: bool
) -> None:
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        if len(calls) == call:
            cuda.broken = broken and call == 4
            raise error

    with pytest.raises(type(error)) as caught:
        taken(cuda, body)
    assert caught.value is error
    if isinstance(error, torch.OutOfMemoryError):
        cuda.empty_cache()  # torch frees what a capture used that was ended, together with its graph


def test_an_error_of_the_work_itself_is_no_matter_of_graphs() -> None:
    def body() -> None:
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        taken(Cuda(), body)
