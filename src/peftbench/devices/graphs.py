"""Captures a function in a CUDA graph, once, and replays it: the host launches one graph instead of each kernel."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from peftbench.devices.failures import context_is_alive, is_out_of_memory, is_sticky, one_line
from peftbench.devices.workspaces import clear_cublas_workspaces, end_allocations
from peftbench.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

_SYNCHRONISES: Final = "synchronizing CUDA operation"
"""What torch's error says where a call waits for the device."""


@dataclass(frozen=True, slots=True)
class CapturedGraph:
    """A captured function."""

    replay: Callable[[], object]
    """Launches the captured work on the current stream."""
    reset: Callable[[], object]
    """Frees the graph and its memory."""
    capture_s: float
    """Time of the capture itself, without the calls before it."""
    pool_bytes: int
    """Memory that the graph holds for its intermediate tensors, as long as it lives."""


def torch_cuda() -> Any:  # noqa: ANN401 - the module, or its stand-in
    """Return torch's module for CUDA."""
    import torch

    return torch.cuda


def capture(body: Callable[[], object], device: torch.device, *, cuda: Any = None) -> CapturedGraph:  # noqa: ANN401 - see above
    """Capture one call of `body`.

    `body` is called three times before, on a side stream. The first call is an ordinary one, which creates workspaces
    and optimizer state. The second is told that it is captured: libraries take another path then, without a look at the
    contents of a mask. In the third a wait for the device is an error: what waits cannot be captured, and an error in a
    capture would leave more behind than one before it.

    Args:
        body: The work. Its inputs must be tensors that stay at their place.
        device: The CUDA device.
        cuda: Stand-in for `torch.cuda`, for tests.

    Raises:
        UnsupportedError: the work cannot be captured; says why, in one line.
        RuntimeError: an error of the work itself, or memory is short.
    """
    cuda = cuda or torch_cuda()
    with cuda.device(device):
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            body()
            with _as_if_captured(cuda):
                body()
                with _refusing_to_wait(cuda):
                    body()
        cuda.current_stream().wait_stream(side)
        cuda.synchronize()
        gc.collect()
        clear_cublas_workspaces()  # the graph asks for its own, in memory that lives as long as it does
        cuda.empty_cache()
        reserved_bytes = cuda.memory_reserved()
        graph, pool = cuda.CUDAGraph(), cuda.graph_pool_handle()
        start = perf_counter()
        # The outer context puts the stream back where `torch.cuda.graph` does not: when the end of a capture fails.
        with _explained(device, cuda, graph, pool), cuda.stream(side), cuda.graph(graph, pool=pool, stream=side):
            body()
        capture_s = perf_counter() - start
        clear_cublas_workspaces()  # nothing else may use, or free, the graph's
        pool_bytes = int(cuda.memory_reserved()) - int(reserved_bytes)
    return CapturedGraph(graph.replay, graph.reset, capture_s, max(0, pool_bytes))


@contextmanager
def _as_if_captured(cuda: Any) -> Iterator[None]:  # noqa: ANN401 - the module, or its stand-in
    """Within the context, whoever asks torch is told that a capture is under way."""
    asked = cuda.is_current_stream_capturing
    cuda.is_current_stream_capturing = lambda: True
    try:
        yield
    finally:
        cuda.is_current_stream_capturing = asked


@contextmanager
def _refusing_to_wait(cuda: Any) -> Iterator[None]:  # noqa: ANN401 - the module, or its stand-in
    """Within the context, a call that waits for the device is an UnsupportedError that names its place."""
    before = cuda.get_sync_debug_mode()
    cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        if _SYNCHRONISES not in str(error):
            raise
        raise UnsupportedError(f"CUDA graph: the round waits for the device{_place(error)}") from error
    finally:
        cuda.set_sync_debug_mode(before)


@contextmanager
def _explained(device: torch.device, cuda: Any, graph: object, pool: object) -> Iterator[None]:  # noqa: ANN401 - see above
    """Within the context, undo what a capture that fails leaves, and turn its error into an UnsupportedError."""
    try:
        yield
    except Exception as error:
        first = _first(error)
        if is_sticky(first):
            raise first from None
        end_allocations(device, graph, pool)
        _forget_capture(device, cuda)
        if is_out_of_memory(first):
            raise first from None
        if not context_is_alive(device):
            raise
        raise UnsupportedError(f"CUDA graph: {one_line(first)}{_place(first)}") from error


def _first(error: BaseException) -> BaseException:
    """Return the error that came first. The end of a broken capture raises another one."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _forget_capture(device: torch.device, cuda: Any) -> None:  # noqa: ANN401 - the module, or its stand-in
    """Give the device's random generator a new state: a capture that failed leaves the old one in its mode."""
    generators = getattr(cuda, "default_generators", ())
    if device.index is not None and device.index < len(generators):
        generator = generators[device.index]
        if hasattr(generator, "graphsafe_set_state"):
            generator.graphsafe_set_state(generator.clone_state())


def _place(error: BaseException) -> str:
    """Return the innermost line outside of torch at which an error was raised: ` (masking_utils.py:123)`; or ''."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = Path(__file__).name
    for frame in reversed(frames):
        parts = Path(frame.filename).parts
        if "torch" not in parts and parts[-1:] not in {(ours,), ("contextlib.py",)}:
            return f" ({parts[-1]}:{frame.lineno})"
    return ""
