"""Texts of CUDA errors are as torch raises them; what a CPU can raise is raised."""

import numpy as np
import pytest
import torch

from peftbench.errors import UnsupportedError, ValidityError
from peftbench.failures import Failure, asked_bytes, context_is_alive, failure, is_out_of_memory, is_sticky

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
    assert failure(caught.value, "model build") == Failure(
        "out-of-memory", "out of memory in model build: asked for 1048576.0 TiB", 2**60
    )


def test_an_array_too_large_for_the_host() -> None:
    with pytest.raises(MemoryError) as caught:
        np.empty(2**58, dtype=np.uint8)
    assert failure(caught.value, "data").status == "out-of-memory"


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
    result = failure(error, "first step", alive=lambda: pytest.fail("the device is fine"))
    assert (result.status, result.asked_bytes, result.poisoned) == ("out-of-memory", asked, False)
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
    result = failure(torch.AcceleratorError(f"CUDA error: {text}{HINT}"), "backward")
    assert result == Failure(
        "failed", f"the CUDA context was lost in backward: AcceleratorError: CUDA error: {text}", poisoned=True
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
    assert not failure(error, "forward").poisoned
    assert failure(error, "forward", alive=lambda: False).poisoned
    assert failure(error, "forward").reason == f"forward: RuntimeError: {text.splitlines()[0]}"


def test_our_own_errors_keep_their_words() -> None:
    assert failure(UnsupportedError("no prefix for qa"), "model build") == Failure("unsupported", "no prefix for qa")
    assert failure(ValidityError("no gradient"), "validity") == Failure("invalid", "no gradient")


def test_a_reason_is_one_short_line() -> None:
    reason = failure(ValueError("\n\n  first  \nsecond" + "x" * 999), "forward").reason
    assert reason == "forward: ValueError: first"
    assert len(failure(ValueError("x" * 999), "forward").reason) < 250
    assert failure(KeyboardInterrupt(), "forward").reason == "forward: KeyboardInterrupt"


def test_the_amount_is_read_in_its_unit() -> None:
    assert asked_bytes("Tried to allocate 1024.00 KiB (GPU 0; 11.17 GiB total capacity)") == 2**20
    assert asked_bytes("you tried to allocate 4096 bytes. Error code 12") == 4096
    assert asked_bytes("out of memory") is None


def test_the_cpu_is_always_alive() -> None:
    assert context_is_alive(torch.device("cpu"))
