"""torch.compile as a setting: compiling a model, running it eagerly, and the reason why it cannot be compiled.

Each model is compiled apart from all others. torch.compile would fall back to eager code for good without notice; here
that is an error, so a row of a compiled run is compiled or says why not. Validity and counters describe eager code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from peftbench.devices.failures import is_out_of_memory
from peftbench.errors import UnsupportedError
from peftbench.libraries import quiet, reason
from peftbench.records.scratch import scratch_folder

if TYPE_CHECKING:
    import torch

SHARED_LIMIT: Final = 256
"""Limit of recompilations if torch cannot keep models apart. What follows a graph break then shares one limit."""

_PACKAGES: Final = ("torch._dynamo.", "torch._inductor.", "torch._functorch.")
"""Prefixes of the modules that define the exceptions of torch.compile."""
_BREAKS: Final = ("graph_break", "unimplemented")
"""Names of torch.compile's counters whose keys are reasons of graph breaks."""
_HINTS: Final = {"InvalidCxxCompiler": "; on a CPU torch.compile needs a C++ compiler: install g++, or set CXX to one"}


def compiled(model: torch.nn.Module, mode: str = "") -> Callable[..., Any]:
    """Return a function that compiles `model` in its first calls and runs it.

    Args:
        model: The model.
        mode: Mode of torch.compile, such as `max-autotune`; empty for its default.
    """
    import torch

    apart = _keeps_models_apart()
    options: dict[str, Any] = {"isolate_recompiles": True} if apart else {}
    if mode:
        options["mode"] = mode
    function: Callable[..., Any] = torch.compile(model if apart else _with_code_of_its_own(model), **options)
    return function


def _with_code_of_its_own(model: torch.nn.Module) -> Callable[..., Any]:
    """Return a function that calls a model. An older torch keeps what it compiled by the code of a function.

    Models of one class share that code. The second would run the first one's graph, or be compiled with other shapes
    and numbers taken for variable, and its compile time would depend on what was compiled before it.
    """

    def run(*args: object, **kwargs: object) -> Any:  # noqa: ANN401 - whatever the model returns
        return model(*args, **kwargs)

    run.__code__ = run.__code__.replace(co_name=f"run_{uuid4().hex}")
    return run


@contextmanager
def compiling() -> Iterator[None]:
    """Within the context, reaching the limit of recompilations is an error. At its end compiled code is dropped."""
    from torch import _dynamo  # its configuration has no public name

    limits = {} if _keeps_models_apart() else {"recompile_limit": SHARED_LIMIT}
    with _dynamo.config.patch({"fail_on_recompile_limit_hit": True, **limits}):
        try:
            yield
        finally:
            reset()


def reset() -> None:
    """Drop all compiled code, also that of models that no longer exist."""
    import torch

    torch.compiler.reset()


def eager() -> AbstractContextManager[object]:
    """Within the context, compiled models run as eager code, and nothing is traced."""
    import torch

    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


@dataclass(frozen=True, slots=True)
class Compilation:
    """The graphs that torch.compile made within one call."""

    graphs: int
    """Number of graphs. More than one means graph breaks: the code between two graphs runs as eager code."""
    breaks: tuple[str, ...]
    """The reasons of graph breaks, a line each, as far as torch reports them."""
    without_graph: int = 0
    """Number of compiled parts that torch did not put into a CUDA graph, though its mode asks for it."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings for the record, a line each."""
        notes = ["counters and peak_bytes describe the eager model"]
        if self.graphs > 1:
            reasons = ", ".join(self.breaks) or "torch gives no reason"
            notes.append(f"compiled in {self.graphs} graphs with eager code between them: {reasons}")
        if self.without_graph:
            notes.append(f"torch.compile put {self.without_graph} compiled parts into no CUDA graph")
        return tuple(notes)


@contextmanager
def from_scratch() -> Iterator[Callable[[], Compilation]]:
    """Within the context, torch's caches on disk are not used. Yields a function: it returns the compilation so far."""
    from torch._dynamo.utils import counters  # torch has no public name for them
    from torch._inductor.utils import fresh_cache

    counters.clear()
    with scratch_folder() as folder, quiet("torch._inductor"), fresh_cache(dir=str(folder)):
        yield lambda: Compilation(
            graphs=counters["stats"]["unique_graphs"],
            breaks=tuple(dict.fromkeys(_line(text) for kind in _BREAKS for text in counters[kind])),
            without_graph=counters["inductor"]["cudagraph_skips"],
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
    """Return the reason why torch.compile failed, in one line; '' for an error of something else."""
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
