"""Each facet: a deed is noticed, undone and told, and nothing is told where nothing was done."""
# ruff: noqa: FBT003 (setters of torch)

from __future__ import annotations

import gc
import locale
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from peftbench.state import process, torch_state
from peftbench.state.batches import batches_facet, weighted_sum
from peftbench.state.facet import Facet, Seen, look, put_back, shown

FACETS = (*process.FACETS, *torch_state.FACETS, process.THREADS)
BACKENDS: Any = torch.backends
AUTOGRAD: Any = torch._C._autograd


class Watching(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        return func(*args, **(kwargs or {}))


class Overriding(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        return func(*args, **(kwargs or {}))


def a_hook(*_: object) -> None: ...


def a_tracer(*_: object) -> None: ...


def entered(context: Any) -> Callable[[], object]:  # noqa: ANN401 - any context manager
    def enter() -> None:
        HELD.append(context)
        context.__enter__()

    return enter


HELD: list[object] = []
"""What a method keeps, so that nothing ends by itself."""

DEEDS: dict[str, tuple[Callable[[], object], str]] = {
    "the working directory": (lambda: os.chdir("/"), "/ instead of "),
    "the environment variables": (lambda: os.environ.update(A_NEW_ONE="a secret", HOME="/"), "A_NEW_ONE, HOME"),
    "the locale": (lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"), "C.UTF-8 instead of"),
    "the recursion limit": (lambda: sys.setrecursionlimit(sys.getrecursionlimit() - 1), "instead of"),
    "the switch interval of threads": (lambda: sys.setswitchinterval(0.5), "0.5 instead of 0.005"),
    "sys.settrace": (lambda: sys.settrace(a_tracer), "a_tracer instead of"),
    "sys.setprofile": (lambda: sys.setprofile(a_tracer), "a_tracer instead of"),
    "threading.settrace": (lambda: threading.settrace(a_tracer), "a_tracer instead of"),
    "threading.setprofile": (lambda: threading.setprofile(a_tracer), "a_tracer instead of"),
    "garbage collection": (gc.disable, "False instead of True"),
    "the thresholds of garbage collection": (lambda: gc.set_threshold(1, 2, 3), "(1, 2, 3) instead of"),
    "the debugging flags of garbage collection": (lambda: gc.set_debug(gc.DEBUG_SAVEALL), "32 instead of 0"),
    "the callbacks of garbage collection": (lambda: gc.callbacks.append(a_hook), "a_hook added"),
    "the warnings filters": (lambda: warnings.simplefilter("error"), "'error'"),
    "warnings.showwarning": (lambda: setattr(warnings, "showwarning", a_hook), "a_hook instead of"),
    "the signal handlers": (lambda: signal.signal(signal.SIGTERM, a_hook), "SIGTERM"),
    "the cores that it may run on": (
        lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1]),
        "instead of {",
    ),
    "Python's random generator": (random.random, ""),
    "numpy's random generator": (np.random.rand, ""),
    "torch's default device": (lambda: torch.set_default_device("meta"), "meta instead of None"),
    "torch's dispatch modes": (entered(Watching()), "Watching added"),
    "torch's function modes": (entered(Overriding()), "Overriding added"),
    "torch's inference mode": (entered(torch.inference_mode()), "True instead of False"),
    "torch's gradients (grad mode)": (lambda: torch.set_grad_enabled(False), "False instead of True"),
    "torch's default dtype": (lambda: torch.set_default_dtype(torch.float64), "torch.float64 instead of torch.float32"),
    "autocast on cpu": (entered(torch.autocast("cpu", torch.bfloat16)), "torch.bfloat16 instead of off"),
    "autocast on cuda": (lambda: torch.set_autocast_enabled("cuda", True), "torch.float16 instead of off"),
    "the nesting of autocast": (torch.autocast_increment_nesting, ""),
    "autocast's cache": (lambda: torch.set_autocast_cache_enabled(False), "False instead of True"),
    "torch's hooks on all modules or optimizers": (
        lambda: torch.nn.modules.module.register_module_forward_hook(a_hook),
        "a_hook added",
    ),
    "the kind of torch's backward hooks on all modules": (
        lambda: setattr(torch.nn.modules.module, "_global_is_full_backward_hook", True),
        "True instead of None",
    ),
    "torch's hooks on saved tensors": (
        entered(torch.autograd.graph.saved_tensors_hooks(lambda one: one, lambda one: one)),
        "instead of None",
    ),
    "torch's anomaly detection": (lambda: torch.autograd.set_detect_anomaly(True), "on instead of off"),
    "the threads of torch's backward": (
        lambda: torch._C._set_multithreading_enabled(False),
        "False instead of True",
    ),
    "torch's threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "instead of"),
    "torch's deterministic algorithms": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        "warn instead of off",
    ),
    "torch.utils.deterministic": (
        lambda: setattr(torch.utils.deterministic, "fill_uninitialized_memory", False),
        "False instead of True",
    ),
    "torch's float32 precision": (lambda: torch.set_float32_matmul_precision("medium"), "matmul medium"),
    "torch.backends.cudnn.benchmark": (lambda: setattr(BACKENDS.cudnn, "benchmark", True), "True instead of False"),
    "torch.backends.cudnn.deterministic": (lambda: setattr(BACKENDS.cudnn, "deterministic", True), "True instead"),
    "torch.backends.cudnn.enabled": (lambda: setattr(BACKENDS.cudnn, "enabled", False), "False instead of True"),
    "torch.backends.mkldnn.enabled": (lambda: setattr(BACKENDS.mkldnn, "enabled", False), "False instead of True"),
    "flash attention of torch": (lambda: BACKENDS.cuda.enable_flash_sdp(False), "False instead of True"),
    "math attention of torch": (lambda: BACKENDS.cuda.enable_math_sdp(False), "False instead of True"),
    "memory-efficient attention of torch": (lambda: BACKENDS.cuda.enable_mem_efficient_sdp(False), "False instead"),
    "cuDNN's attention of torch": (lambda: BACKENDS.cuda.enable_cudnn_sdp(False), "False instead of True"),
    "flushing of denormal numbers": (lambda: torch.set_flush_denormal(True), "True instead of False"),
    "torch.set_warn_always": (lambda: torch.set_warn_always(True), "True instead of False"),
    "torch's random generator": (lambda: torch.rand(1), ""),
}
ELSEWHERE = {
    "torch's interop threads": "they can be set once in a process: tested in one of its own",
    "the running threads": "they cannot be put back: tested apart",
    "the tools of sys.monitoring": "not before Python 3.12: tested apart",
    "the current CUDA device and stream": "needs a CUDA device",
    "torch's random generators on CUDA": "needs a CUDA device",
}


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    HELD.clear()


def test_each_facet_has_a_deed() -> None:
    names = [facet.name for facet in FACETS]
    assert len(set(names)) == len(names)
    assert set(names) == DEEDS.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("name", DEEDS)
def test_a_deed_is_noticed_undone_and_told(name: str) -> None:
    if name == "the cores that it may run on" and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("this process may run on one core only")
    deed, words = DEEDS[name]
    before = look(FACETS)
    assert put_back(before) == ()
    deed()
    assert name in _changed(before)
    told = put_back(before)
    assert [seen.facet.name for seen in before if seen.facet.read() != seen.value] == []
    mine = [line for line in told if line.startswith(f"changed {name}: ")]
    assert len(mine) == (1 if words else 0)
    assert all(words in line and line.endswith("; put back after the case") for line in mine)
    assert "a secret" not in "".join(told)
    assert put_back(before) == ()


def test_a_library_that_a_case_is_the_first_to_need_changes_nothing() -> None:
    """Here in a process that has not imported scikit-learn."""
    script = """
from peftbench.state import process
from peftbench.state.facet import look, put_back
facets = [one for one in process.FACETS if one.name == "the environment variables"]
before = look(facets)
import sklearn.metrics
print(len(facets), put_back(before))
"""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("KMP_")}
    done = subprocess.run([sys.executable, "-c", script], env=alone, capture_output=True, text=True, check=True)
    assert done.stdout == "1 ()\n"


def _changed(before: Iterable[Seen]) -> set[str]:
    """Return what is no longer as it was; a mixture of torch's flags for TF32 cannot even be read."""
    found = set()
    for seen in before:
        try:
            same = seen.facet.read() == seen.value
        except RuntimeError:
            same = False
        found |= set() if same else {seen.facet.name}
    return found


def _other(precision: str) -> str:
    return "ieee" if precision == "tf32" else "tf32"


@pytest.mark.parametrize(
    "deed",
    [
        lambda: setattr(BACKENDS.cuda.matmul, "fp32_precision", _other(BACKENDS.cuda.matmul.fp32_precision)),
        lambda: setattr(BACKENDS.cuda.matmul, "allow_tf32", not BACKENDS.cuda.matmul.allow_tf32),
        lambda: setattr(BACKENDS.cudnn, "allow_tf32", not BACKENDS.cudnn.allow_tf32),
        lambda: setattr(BACKENDS, "fp32_precision", "tf32"),
    ],
)
@pytest.mark.parametrize("first", ["highest", "high"])
def test_all_ways_to_set_the_float32_precision_are_undone(deed: Callable[[], object], first: str) -> None:
    """Torch refuses to tell the older settings when they do not agree with the newer ones."""
    was = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(first)
    try:
        before = look(FACETS)
        deed()
        (told,) = put_back(before)
        assert told.startswith("changed torch's float32 precision: ")
        assert told.endswith("; put back after the case")
        assert torch.get_float32_matmul_precision() == first
        assert _changed(before) == set()
    finally:
        torch.set_float32_matmul_precision(was)


def test_modes_are_put_back_in_their_order() -> None:
    facet = next(facet for facet in FACETS if facet.name == "torch's function modes")
    first, second = Overriding(), Overriding()
    with first, second:
        before = look([facet])
        second.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        third = Overriding()
        third.__enter__()  # type: ignore[no-untyped-call]
        (told,) = put_back(before)
        assert "Overriding added, Overriding gone" in told
        assert torch.overrides._get_current_function_mode_stack()[-2:] == [first, second]  # type: ignore[no-untyped-call]


def test_a_mode_that_cannot_end_itself_is_taken_off() -> None:
    class Stubborn(Watching):  # type: ignore[no-untyped-call]
        def __exit__(self, *_: object) -> None:
            raise ValueError("never")

    before = look(torch_state.FACETS)
    Stubborn().__enter__()  # type: ignore[no-untyped-call]
    assert ["Stubborn added" in line for line in put_back(before)] == [True]
    assert torch.utils._python_dispatch._get_current_dispatch_mode_stack() == []


def test_default_device_and_modes_above_it_are_both_put_back() -> None:
    before = look(torch_state.FACETS)
    Overriding().__enter__()  # type: ignore[no-untyped-call]
    torch.set_default_device("meta")
    torch.device("meta").__enter__()
    put_back(before)
    assert torch.overrides._get_current_function_mode_stack() == []  # type: ignore[no-untyped-call]
    assert torch.ones(1).device.type == "cpu"


def test_what_is_shared_with_inference_mode_left_on_can_be_trained_afterwards() -> None:
    before = look(torch_state.FACETS)
    mode = torch.inference_mode()
    mode.__enter__()
    assert len(put_back(before)) == 1
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()  # type: ignore[no-untyped-call]
    mode.__exit__(None, None, None)
    del mode
    gc.collect()
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_a_thread_that_runs_on_is_told_and_one_that_ended_is_not() -> None:
    stop = threading.Event()
    done = threading.Thread(target=time.sleep, args=(0,))
    running = threading.Thread(target=stop.wait, name="poller", daemon=True)
    before = look([process.THREADS])
    done.start()
    running.start()
    done.join()
    assert put_back(before) == ("changed the running threads: poller added; the cases after it run with that",)
    now = look([process.THREADS])
    stop.set()
    running.join()
    assert put_back(now) == ()


def test_interop_threads_cannot_be_put_back_and_that_is_told() -> None:
    code = """
import torch
from peftbench.state import torch_state
from peftbench.state.facet import look, put_back
torch.set_num_interop_threads(2)
(facet,) = [facet for facet in torch_state.FACETS if "interop" in facet.name]
before = look([facet])
object.__setattr__(before[0], "value", 5)
print(*put_back(before), sep="")
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("changed torch's interop threads: 2 instead of 5; cannot be put back, the cases after it ")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is of Python 3.12")
def test_tools_of_monitoring_are_freed() -> None:
    monitoring: Any = getattr(sys, "monitoring", None)
    facet = next(facet for facet in FACETS if "monitoring" in facet.name)
    before = look([facet])
    monitoring.use_tool_id(3, "mine")
    monitoring.set_events(3, monitoring.events.PY_START)
    assert len(put_back(before)) == 1
    assert monitoring.get_tool(3) is None


def test_a_facet_that_raises_stops_nobody() -> None:
    value = ["fine"]

    def broken() -> str:
        if value[0] == "broken":
            raise RuntimeError("no longer to be had")
        return value[0]

    def cannot(_: str) -> None:
        raise RuntimeError("set once only")

    other = ["a"]
    facets = [
        Facet("one", broken, cannot),
        Facet("two", lambda: other[0], lambda old: other.__setitem__(0, old)),
        Facet("three", lambda: 1 / 0, None),
    ]
    before = look(facets)
    assert [seen.facet.name for seen in before] == ["one", "two"]
    value[0], other[0] = "broken", "b"
    one, two = put_back(before)
    assert one == (
        "changed one: it cannot be read, RuntimeError: no longer to be had; "
        "cannot be put back, the cases after it run with that: RuntimeError: set once only"
    )
    assert two == "changed two: b instead of a; put back after the case"
    assert other == ["a"]


def test_what_is_shown_is_short_and_on_one_line() -> None:
    assert shown("a\nb" * 100) == f"{('a b' * 100)[:57]}..."
    assert shown(object()) == "object"


def _batches() -> tuple[dict[str, torch.Tensor], ...]:
    return tuple(
        {"input_ids": torch.arange(12).reshape(2, 6) + 100 * number, "labels": torch.tensor([0, 1])}
        for number in range(3)
    )


def _swap(batches: tuple[dict[str, torch.Tensor], ...]) -> None:
    row = batches[1]["input_ids"][0]
    row[:2] = row[:2].flip(0).clone()


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (lambda batches: batches[1]["input_ids"].add_(1), "input_ids of batch 1"),
        (_swap, "input_ids of batch 1"),
        (lambda batches: batches[0]["labels"].numpy().fill(7), "labels of batch 0"),
        (lambda batches: [batch.pop("labels") for batch in batches[1:]], "labels of batch 1, 2"),
        (lambda batches: batches[2].update(extra=torch.ones(1)), "their names"),
        (lambda batches: batches[2]["labels"].resize_(5), "labels of batch 2"),
        (lambda batches: batches[0].update(labels=torch.tensor([0, 0])), "labels of batch 0"),
    ],
)
def test_batches_are_put_back_and_told_by_name(deed: Callable[[Any], object], words: str) -> None:
    batches, pristine = _batches(), _batches()
    seen = look([batches_facet(batches)])
    assert put_back(seen) == ()
    for _ in range(2):
        deed(batches)
        assert put_back(seen) == (f"changed the batches: {words}; put back after the case",)
        for batch, old in zip(batches, pristine, strict=True):
            assert list(batch) == list(old)
            assert all(batch[name].equal(old[name]) for name in old)
    assert put_back(seen) == ()


def test_the_hash_of_a_device_sees_each_byte_and_its_place() -> None:
    content = torch.randint(0, 256, (512,), dtype=torch.uint8)
    content[1::2] = content[::2] + 1
    found = {weighted_sum(content)}
    for place in range(content.numel()):
        changed, swapped = content.clone(), content.clone()
        changed[place] += 1
        swapped[[place, place ^ 1]] = content[[place ^ 1, place]]
        found |= {weighted_sum(changed), weighted_sum(swapped)}
    assert len(found) == 1 + 512 + 256
