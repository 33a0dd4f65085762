"""What a case can change in torch."""
# ruff: noqa: SLF001 (most of this state has a setter, and no public way to be read)

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import overrides
from torch.nn.modules import module
from torch.optim import optimizer
from torch.utils import _python_dispatch as dispatch

from peftbench.state.facet import Facet, moved, quiet

_backends: Any = torch.backends
_autograd: Any = torch._C._autograd
_cuda: Any = torch.cuda
_REGISTRIES: Final = tuple(
    value
    for owner in (module, optimizer)
    for name, value in vars(owner).items()
    if name.startswith("_global_") and isinstance(value, dict)
)
"""Of hooks on all modules and optimizers."""
_PRECISIONS: Final[Mapping[str, Callable[[], Any]]] = {
    "fp32_precision": lambda: _backends,
    "cuda.matmul.fp32_precision": lambda: _backends.cuda.matmul,
    "cudnn.fp32_precision": lambda: _backends.cudnn,
    "cudnn.conv.fp32_precision": lambda: _backends.cudnn.conv,
    "cudnn.rnn.fp32_precision": lambda: _backends.cudnn.rnn,
    "mkldnn.fp32_precision": lambda: _backends.mkldnn,
    "mkldnn.conv.fp32_precision": lambda: _backends.mkldnn.conv,
    "mkldnn.rnn.fp32_precision": lambda: _backends.mkldnn.rnn,
    "mkldnn.matmul.fp32_precision": lambda: _backends.mkldnn.matmul,
}
"""What has a precision of its own, from torch 2.9 on; the general before the special."""
_SMALLEST: Final = float.fromhex("0x1p-1074")


def _flag(owner: Callable[[], Any], name: str, attribute: str) -> Facet:
    """Return the facet of an attribute."""
    return Facet(name, lambda: getattr(owner(), attribute), lambda value: setattr(owner(), attribute, value))


def _set_inference_mode(on: bool) -> None:  # noqa: FBT001 - a setter
    """Switch inference mode for good: it has no setter, and its guard would switch it back when nobody holds it."""
    guard = torch._C._InferenceMode(on)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(guard))


def _autocast(device: str) -> Facet:
    def read() -> torch.dtype | None:
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None

    def restore(dtype: torch.dtype | None) -> None:
        torch.set_autocast_enabled(device, dtype is not None)
        if dtype is not None:
            torch.set_autocast_dtype(device, dtype)

    return Facet(f"autocast on {device}", read, restore, lambda old, new: f"{new or 'off'} instead of {old or 'off'}")


def _nesting() -> int:
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def _set_nesting(before: int) -> None:
    """Leave what autocast has entered: its copies of weights in another dtype live as long."""
    while _nesting() > before:
        torch.autocast_decrement_nesting()
    while _nesting() < before:
        torch.autocast_increment_nesting()
    torch.clear_autocast_cache()


def _default_device() -> torch.device | None:
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def _hooks() -> list[dict[Any, Any]]:
    return [dict(registry) for registry in _REGISTRIES]


def _set_hooks(before: list[dict[Any, Any]]) -> None:
    for registry, hooks in zip(_REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(hooks)


def _told_hooks(before: list[dict[Any, Any]], after: list[dict[Any, Any]]) -> str:
    old, new = ([hook for part in parts for hook in part.values() if callable(hook)] for parts in (before, after))
    return moved(old, new)


def _stack(
    name: str, stack: Callable[[], Sequence[Any]], push: Callable[[Any], object], pop: Callable[[], Any]
) -> Facet:
    def restore(before: Sequence[Any]) -> None:
        same = next(
            (place for place, pair in enumerate(zip(before, stack(), strict=False)) if pair[0] is not pair[1]), None
        )
        depth = min(len(before), len(stack())) if same is None else same
        while (now := len(stack())) > depth:
            _leave(stack()[-1])
            if len(stack()) == now:
                pop()
        for mode in before[depth:]:
            push(mode)

    return Facet(name, lambda: tuple(stack()), restore, moved)


def _leave(mode: Any) -> None:  # noqa: ANN401 - a mode of either kind
    """End a mode as it would end itself, so that what it keeps beside the stack is put back as well."""
    try:
        mode.__exit__(None, None, None)
    except Exception:  # noqa: BLE001 - a method's own mode; it is taken off the stack if it is still there
        return


def _saved_hooks() -> Any:  # noqa: ANN401 - a pair of callables, or None
    return _autograd._top_saved_tensors_default_hooks(True)  # noqa: FBT003 - while compiling, too


def _set_saved_hooks(before: Any) -> None:  # noqa: ANN401 - see above
    while (top := _saved_hooks()) is not None and top != before:
        _autograd._pop_saved_tensors_default_hooks()
    if before is not None and _saved_hooks() is None:
        _autograd._push_saved_tensors_default_hooks(*before)


def _precisions() -> dict[str, str]:
    """Return the older settings, each of which stands for several of the newer ones, and these."""
    try:
        older = {"matmul": torch.get_float32_matmul_precision(), "cudnn.allow_tf32": str(_backends.cudnn.allow_tf32)}
    except RuntimeError:  # somebody has set some of the older and some of the newer
        older = {}
    return older | {name: own for name, owner in _PRECISIONS.items() if (own := _precision(owner()))}


def _precision(owner: Any) -> str:  # noqa: ANN401 - a module of torch, or an object in one
    return getattr(owner, "fp32_precision", "")


def _set_precisions(before: Mapping[str, str]) -> None:
    if before.keys() >= {"matmul", "cudnn.allow_tf32"}:
        torch.set_float32_matmul_precision(before["matmul"])
        _backends.cudnn.allow_tf32 = before["cudnn.allow_tf32"] == str(True)
    for name, owner in _PRECISIONS.items():
        if name in before and _precision(owner()) != before[name]:
            owner().fp32_precision = before[name]


def _told_precisions(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    old, new = ({f"{name} {value}" for name, value in part.items()} for part in (before, after))
    return f"{', '.join(sorted(new - old)) or 'none'} instead of {', '.join(sorted(old - new))}"


def _flushes() -> bool:
    return _SMALLEST * 1.0 == 0.0


def _cuda_states() -> tuple[bytes, ...]:
    if not _cuda.is_initialized():
        return ()
    return tuple(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all())


def _tensor(state: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(state), dtype=torch.uint8)


def _cuda_place() -> tuple[int, Any] | None:
    return (torch.cuda.current_device(), torch.cuda.current_stream()) if _cuda.is_initialized() else None


def _set_cuda_place(before: tuple[int, Any] | None) -> None:
    if before is not None:
        torch.cuda.set_stream(before[1])
        torch.cuda.set_device(before[0])


def _told_cuda_place(before: tuple[int, Any] | None, after: object) -> str:
    return "" if before is None else f"{after} instead of {before}"


FACETS: Final = (
    # What every later call of torch runs through comes first.
    Facet("torch's default device", _default_device, torch.set_default_device),
    _stack(
        "torch's dispatch modes", dispatch._get_current_dispatch_mode_stack, dispatch._push_mode, dispatch._pop_mode
    ),
    _stack(
        "torch's function modes",
        overrides._get_current_function_mode_stack,
        overrides._push_mode,
        overrides._pop_mode,
    ),
    Facet("torch's inference mode", torch.is_inference_mode_enabled, _set_inference_mode),
    Facet("torch's gradients (grad mode)", torch.is_grad_enabled, torch._C._set_grad_enabled),
    Facet("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    _autocast("cpu"),
    _autocast("cuda"),
    Facet("the nesting of autocast", _nesting, _set_nesting, quiet),
    Facet("autocast's cache", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    Facet("torch's hooks on all modules or optimizers", _hooks, _set_hooks, _told_hooks),
    _flag(lambda: module, "the kind of torch's backward hooks on all modules", "_global_is_full_backward_hook"),
    Facet("torch's hooks on saved tensors", _saved_hooks, _set_saved_hooks),
    Facet(
        "torch's anomaly detection",
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda old: torch.autograd.set_detect_anomaly(*old),
        lambda old, new: f"{'on' if new[0] else 'off'} instead of {'on' if old[0] else 'off'}",
    ),
    Facet("the threads of torch's backward", torch._C._is_multithreading_enabled, torch._C._set_multithreading_enabled),
    Facet("torch's threads", torch.get_num_threads, torch.set_num_threads),
    Facet("torch's interop threads", torch.get_num_interop_threads, torch.set_num_interop_threads),
    Facet(
        "torch's deterministic algorithms",
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
        lambda old, new: f"{('off', 'warn', 'on')[new]} instead of {('off', 'warn', 'on')[old]}",
    ),
    _flag(lambda: torch.utils.deterministic, "torch.utils.deterministic", "fill_uninitialized_memory"),
    Facet("torch's float32 precision", _precisions, _set_precisions, _told_precisions),
    _flag(lambda: _backends.cudnn, "torch.backends.cudnn.benchmark", "benchmark"),
    _flag(lambda: _backends.cudnn, "torch.backends.cudnn.deterministic", "deterministic"),
    _flag(lambda: _backends.cudnn, "torch.backends.cudnn.enabled", "enabled"),
    _flag(lambda: _backends.mkldnn, "torch.backends.mkldnn.enabled", "enabled"),
    Facet("flash attention of torch", _backends.cuda.flash_sdp_enabled, _backends.cuda.enable_flash_sdp),
    Facet("math attention of torch", _backends.cuda.math_sdp_enabled, _backends.cuda.enable_math_sdp),
    Facet(
        "memory-efficient attention of torch",
        _backends.cuda.mem_efficient_sdp_enabled,
        _backends.cuda.enable_mem_efficient_sdp,
    ),
    Facet("cuDNN's attention of torch", _backends.cuda.cudnn_sdp_enabled, _backends.cuda.enable_cudnn_sdp),
    Facet("flushing of denormal numbers", _flushes, torch.set_flush_denormal),
    Facet("torch.set_warn_always", torch.is_warn_always_enabled, torch.set_warn_always),
    Facet("the current CUDA device and stream", _cuda_place, _set_cuda_place, _told_cuda_place),
    Facet(
        "torch's random generator",
        lambda: torch.get_rng_state().numpy().tobytes(),
        lambda state: torch.set_rng_state(_tensor(state)),
        quiet,
    ),
    Facet(
        "torch's random generators on CUDA",
        _cuda_states,
        lambda states: torch.cuda.set_rng_state_all([_tensor(state) for state in states]) if states else None,
        quiet,
    ),
)
"""Restored in this order."""
