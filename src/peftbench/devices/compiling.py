"""torch.compile as a setting: what a round calls, when it is left out, and why it could not be done.

Each model is compiled apart from all others, and a fallback to eager code for good, which would pass unnoticed, is an
error: a row of a compiled run is compiled, or says why not. Validity and counters describe the eager model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from peftbench.devices.failures import is_out_of_memory
from peftbench.errors import UnsupportedError
from peftbench.libraries import quiet, reason
from peftbench.records.scratch import scratch_folder

if TYPE_CHECKING:
    import torch

SHARED_LIMIT: Final = 256
"""Of recompilations, where torch cannot keep models apart: then all models of an architecture have one together."""

_PACKAGES: Final = ("torch._dynamo.", "torch._inductor.", "torch._functorch.")
"""Where the exceptions of torch.compile are defined."""
_BREAKS: Final = ("graph_break", "unimplemented")
"""The counters of torch.compile that are kept by reason."""
_HINTS: Final = {"InvalidCxxCompiler": "; on a CPU torch.compile needs a C++ compiler: install g++, or set CXX to one"}


def compiled(model: torch.nn.Module) -> Callable[..., Any]:
    """Return `model` such that its first calls compile it."""
    import torch

    options: dict[str, Any] = {"isolate_recompiles": True} if _keeps_models_apart() else {}
    function: Callable[..., Any] = torch.compile(model, **options)
    return function


@contextmanager
def compiling() -> Iterator[None]:
    """Within the context, reaching the limit of recompilations is an error; at its end compiled code is dropped."""
    from torch import _dynamo  # its configuration has no public name

    limits = {} if _keeps_models_apart() else {"recompile_limit": SHARED_LIMIT}
    with _dynamo.config.patch({"fail_on_recompile_limit_hit": True, **limits}):
        try:
            yield
        finally:
            reset()


def reset() -> None:
    """Drop compiled code, also that of models that are gone."""
    import torch

    torch.compiler.reset()


def eager() -> AbstractContextManager[object]:
    """Within the context, what is compiled runs as it was written, and nothing is traced."""
    import torch

    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


@dataclass(frozen=True, slots=True)
class Compilation:
    """What torch.compile did within one call."""

    graphs: int
    """More than one where a graph had to end before the model did; what stands between two runs as eager code."""
    breaks: tuple[str, ...]
    """The reasons, a line each, as far as torch tells them."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what a reader of the numbers must know, a line each."""
        notes = ["counters and peak_bytes describe the eager model"]
        if self.graphs > 1:
            reasons = ", ".join(self.breaks) or "torch gives no reason"
            notes.append(f"compiled in {self.graphs} graphs with eager code between them: {reasons}")
        return tuple(notes)


@contextmanager
def from_scratch() -> Iterator[Callable[[], Compilation]]:
    """Within the context, nothing is taken from torch's caches on disk; gives what tells what was compiled so far."""
    from torch._dynamo.utils import counters  # torch tells it nowhere else
    from torch._inductor.utils import fresh_cache

    counters.clear()
    with scratch_folder() as folder, quiet("torch._inductor"), fresh_cache(dir=str(folder)):
        yield lambda: Compilation(
            graphs=counters["stats"]["unique_graphs"],
            breaks=tuple(dict.fromkeys(_line(text) for kind in _BREAKS for text in counters[kind])),
        )


@contextmanager
def faults() -> Iterator[None]:
    """Within the context, turn an error of torch.compile into an UnsupportedError of one line."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error) or not (line := why_not(error)):
            raise
        raise UnsupportedError(line) from error


def why_not(error: Exception) -> str:
    """Return in one line why torch.compile failed, or '' for an error that is not its own."""
    if not any(kind.__module__.startswith(_PACKAGES) for kind in type(error).__mro__):
        return ""
    cause: BaseException = getattr(error, "inner_exception", None) or error.__cause__ or error
    kind = type(cause).__name__
    return f"torch.compile: {kind}: {reason(cause)}{_HINTS.get(kind, '')}"


def _line(text: object) -> str:
    return str(text).strip().partition("\n")[0]


def _keeps_models_apart() -> bool:
    import torch

    return "isolate_recompiles" in inspect.signature(torch.compile).parameters
