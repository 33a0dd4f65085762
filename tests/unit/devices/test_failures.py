"""Texts of CUDA errors are as torch raises them; what a CPU can raise is raised."""

import numpy as np
import pytest
import torch

from peftbench.devices.failures import Failure, asked_bytes, classify, context_is_alive, is_out_of_memory, is_sticky

HINT = """
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""
CUDA_OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 22.78 GiB. GPU 0 has a total capacity of 31.47 GiB of which 12.73 GiB is "
    "free. Including non-PyTorch memory, this process has 18.73 GiB memory in use. Of the allocated memory 9.08 GiB "
    "is allocated by PyTorch, and 9.35 GiB is reserved by PyTorch but unallocated."
)


def test_a_tensor_too_large_for_the_host_says_how_large() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert classify(caught.value, "model build") == Failure(
        "out-of-memory", "out of memory in model build: asked for 1048576.0 TiB", 2**60
    )


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"),
    ],
)
def test_a_full_disk_is_the_machines_failure(error: Exception) -> None:
    assert classify(error, "saving").kind == "disk-full"
    wrapped = ValueError("cannot be saved")
    wrapped.__cause__ = error
    assert classify(wrapped, "saving").kind == "disk-full"
    assert classify(ValueError("cannot be saved"), "saving").kind == "failed"


def test_an_array_too_large_for_the_host() -> None:
    with pytest.raises(MemoryError) as caught:
        np.empty(2**58, dtype=np.uint8)
    assert classify(caught.value, "data").kind == "out-of-memory"


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (torch.OutOfMemoryError(CUDA_OUT_OF_MEMORY), round(22.78 * 2**30)),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU"), 20 * 2**20),
        (torch.AcceleratorError("CUDA error: out of memory" + HINT), None),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), None),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), None),
        (OSError(12, "Cannot allocate memory"), None),
        (MemoryError(), None),
    ],
)
def test_out_of_memory_is_no_poison(error: Exception, asked: int | None) -> None:
    result = classify(error, "first step", alive=lambda: pytest.fail("the device is fine"))
    assert (result.kind, result.asked_bytes) == ("out-of-memory", asked)
    assert result.reason.startswith("out of memory in first step")


@pytest.mark.parametrize(
    "text",
    [
        "device-side assert triggered",
        "an illegal memory access was encountered",
        "unspecified launch failure",
        "misaligned address",
        "an illegal instruction was encountered",
        "the launch timed out and was terminated",
        "uncorrectable ECC error encountered",
    ],
)
def test_a_sticky_error_ends_the_launch(text: str) -> None:
    assert classify(torch.AcceleratorError(f"CUDA error: {text}{HINT}"), "backward") == Failure(
        "poison", f"CUDA context lost in backward: AcceleratorError: CUDA error: {text}"
    )


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: no kernel image is available for execution on the device" + HINT,
        "CUDA error: invalid configuration argument" + HINT,
        "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`",
        "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 0",
    ],
)
def test_any_other_error_asks_the_device(text: str) -> None:
    error = RuntimeError(text)
    assert not is_out_of_memory(error)
    assert not is_sticky(error)
    line = f"RuntimeError: {text.splitlines()[0]}"
    assert classify(error, "forward") == Failure("failed", f"failed in forward: {line}")
    assert classify(error, "forward", alive=lambda: False) == Failure("poison", f"CUDA context lost in forward: {line}")


def test_a_reason_is_one_short_line() -> None:
    assert classify(ValueError("\n\n  first  \nsecond" + "x" * 999)).reason == "failed: ValueError: first"
    assert len(classify(ValueError("x" * 999)).reason) < 250
    assert classify(KeyboardInterrupt()).reason == "failed: KeyboardInterrupt"


def test_the_amount_is_read_in_its_unit() -> None:
    assert asked_bytes("Tried to allocate 1024.00 KiB (GPU 0; 11.17 GiB total capacity)") == 2**20
    assert asked_bytes("you tried to allocate 4096 bytes. Error code 12") == 4096
    assert asked_bytes("out of memory") is None


def test_the_cpu_is_always_alive() -> None:
    assert context_is_alive(torch.device("cpu"))


def test_a_device_that_fails_again_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> None:
        raise torch.AcceleratorError(text)

    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: fail("CUDA error: device-side assert triggered"))  # noqa: ARG005 - torch's signature
    assert not context_is_alive(torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: fail("CUDA error: out of memory"))  # noqa: ARG005 - torch's signature
    assert context_is_alive(torch.device("cuda", 0))
