"""torch.compile as a setting: what a round calls, when it is left out, and why it could not be done.

A model is compiled apart from all others, whatever torch has compiled before, and a fallback to eager code that would
pass unnoticed is an error: a row of a compiled run is compiled, or says why not. Validity and counters describe the
eager model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import UnsupportedError
from peftbench.measure.failures import is_out_of_memory

if TYPE_CHECKING:
    import torch

RECOMPILATIONS: Final = 256
"""Limit where torch cannot keep the models of a run apart, which then share it; where it can, torch's own holds."""

_MODULES: Final = ("torch._dynamo.", "torch._inductor.", "torch._functorch.")
"""Where the exceptions of torch.compile are defined."""

_HINTS: Final = {
    "InvalidCxxCompiler": "; torch.compile on a CPU needs a C++ compiler: install g++, or name one in $CXX",
}


def compiled(model: torch.nn.Module) -> Callable[..., Any]:
    """Return `model` such that its first calls compile it."""
    import torch

    function: Callable[..., Any] = torch.compile(model, **({"isolate_recompiles": True} if _isolates() else {}))
    return function


def eager() -> AbstractContextManager[object]:
    """Within the context, what is compiled runs as it was written, and nothing is traced."""
    import torch

    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def compiling() -> Iterator[None]:
    """Within the context, reaching the limit of recompilations is an error; at its end all compiled code is dropped."""
    import torch
    import torch._dynamo as dynamo

    limits = {"fail_on_recompile_limit_hit": True}
    with ExitStack() as stack:
        stack.callback(torch.compiler.reset)
        stack.enter_context(dynamo.config.patch(limits if _isolates() else {**limits, "recompile_limit": RECOMPILATIONS}))
        yield


def reset() -> None:
    """Drop all compiled code, of models that are gone too."""
    import torch

    torch.compiler.reset()


@dataclass(frozen=True, slots=True)
class Compilation:
    """What torch.compile did within one call."""

    graphs: int
    """More than one where a graph broke, and what stands between two graphs runs as eager code."""
    breaks: tuple[str, ...]
    """The reasons, a line each."""
    cached: bool
    """Whether code came from inductor's cache on disk, so that the time says little."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what a reader of the numbers must know."""
        notes = ["compiled: counters and peak_bytes describe the eager model"]
        if self.breaks:
            notes.append(f"compiled in {self.graphs} graphs, with eager code between them: {self.breaks[0]}")
        return tuple(notes)


@contextmanager
def watched() -> Iterator[Callable[[], Compilation]]:
    """Give what tells, after the call that compiles, what was done."""
    from torch._dynamo.utils import counters  # torch tells it nowhere else

    counters.clear()
    yield lambda: Compilation(
        graphs=counters["stats"]["unique_graphs"],
        breaks=tuple(_first_line(str(text)) for text in counters["graph_break"]),
        cached=any(
            count for part in ("inductor", "aot_autograd") for name, count in counters[part].items() if "cache_hit" in name
        ),
    )


@contextmanager
def faults() -> Iterator[None]:
    """Within the context, turn an error of torch.compile into an UnsupportedError of one line."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error) or not (reason := why_not(error)):
            raise
        raise UnsupportedError(reason) from error


def why_not(error: Exception) -> str:
    """Return in one line why torch.compile failed, or '' for an error that is not its own."""
    if not any(kind.__module__.startswith(_MODULES) for kind in type(error).__mro__):
        return ""
    cause: BaseException = getattr(error, "inner_exception", None) or error.__cause__ or error
    kind = type(cause).__name__
    return f"torch.compile: {kind}: {_first_line(str(cause))}{_HINTS.get(kind, '')}"


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _isolates() -> bool:
    import torch

    return "isolate_recompiles" in inspect.signature(torch.compile).parameters
