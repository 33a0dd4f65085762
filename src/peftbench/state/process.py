"""What a case can change in Python and in the process."""

from __future__ import annotations

import gc
import locale
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Any, Final

from peftbench.state.facet import Facet, instead, moved, quiet

_SIGNALS: Final = tuple(
    signal.Signals[name]
    for name in (
        "SIGINT",
        "SIGTERM",
        "SIGHUP",
        "SIGQUIT",
        "SIGALRM",
        "SIGPROF",
        "SIGCHLD",
        "SIGPIPE",
        "SIGUSR1",
        "SIGUSR2",
    )
    if name in signal.Signals.__members__
)
"""That a program handles: to look at all takes long."""
_LIBRARIES: Final = (
    *("TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_", "DISABLE_CUPTI_LAZY_REINIT", "TEARDOWN_CUPTI"),
    *("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"),
)
"""How the environment variables begin that libraries set for themselves: torch.compile and its profiler, and, when it
is imported for the first score, scikit-learn. They are left alone."""
_ASLEEP: Final = frozenset({"tqdm_monitor"})
"""Threads of libraries that do next to nothing."""
_TOOLS: Final = range(6 if sys.version_info >= (3, 12) else 0)
"""Tool ids of `sys.monitoring`."""


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_LIBRARIES)}


def _set_environment(before: Mapping[str, str]) -> None:
    for name in _environment().keys() - before.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


def _told_environment(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return the names alone: a value may be a secret."""
    return ", ".join(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


def _set_filters(before: list[Any]) -> None:
    warnings.resetwarnings()  # what was decided by the other filters is forgotten
    warnings.filters[:] = before  # type: ignore[index] # typed as a sequence, and a list in every version


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _set_handlers(before: Mapping[int, Any]) -> None:
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _told_handlers(before: Mapping[int, Any], after: Mapping[int, Any]) -> str:
    return ", ".join(signal.Signals(number).name for number in before if before[number] != after[number])


def _told_threads(before: Mapping[int, str], after: Mapping[int, str]) -> str:
    new = [name for ident, name in after.items() if ident not in before and name not in _ASLEEP]
    return moved((), new) if new else ""


def _monitoring() -> list[tuple[str | None, int]]:
    tools: Any = getattr(sys, "monitoring", None)
    names = [tools.get_tool(tool) for tool in _TOOLS]
    return [(name, tools.get_events(tool) if name else 0) for tool, name in enumerate(names)]


def _set_monitoring(before: list[tuple[str | None, int]]) -> None:
    tools: Any = getattr(sys, "monitoring", None)
    for tool, (name, events) in enumerate(before):
        if tools.get_tool(tool) not in {name, None}:
            tools.set_events(tool, 0)
            tools.free_tool_id(tool)
        if name and tools.get_tool(tool) is None:
            tools.use_tool_id(tool, name)
        if name:
            tools.set_events(tool, events)


def _numpy_state() -> tuple[Any, ...]:
    import numpy as np

    state: Any = np.random.get_state()
    kind, key, *rest = state
    return (kind, key.tobytes(), *rest)


def _set_numpy_state(before: tuple[Any, ...]) -> None:
    import numpy as np

    kind, key, *rest = before
    np.random.set_state((kind, np.frombuffer(key, dtype=np.uint32), *rest))


FACETS: Final = (
    Facet("the working directory", os.getcwd, os.chdir),
    Facet("the environment variables", _environment, _set_environment, _told_environment),
    Facet("the locale", lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    Facet(
        "the recursion limit",
        sys.getrecursionlimit,
        sys.setrecursionlimit,
        lambda old, new: instead(old, new) if new < old else "",  # torch.compile raises it
    ),
    Facet("the switch interval of threads", sys.getswitchinterval, sys.setswitchinterval),
    Facet("sys.settrace", sys.gettrace, sys.settrace),
    Facet("sys.setprofile", sys.getprofile, sys.setprofile),
    Facet("threading.settrace", threading.gettrace, threading.settrace),
    Facet("threading.setprofile", threading.getprofile, threading.setprofile),
    Facet("the tools of sys.monitoring", _monitoring, _set_monitoring),
    Facet("garbage collection", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    Facet("the thresholds of garbage collection", gc.get_threshold, lambda counts: gc.set_threshold(*counts)),
    Facet("the debugging flags of garbage collection", gc.get_debug, gc.set_debug),
    Facet(
        "the callbacks of garbage collection",
        lambda: list(gc.callbacks),
        lambda before: gc.callbacks.__setitem__(slice(None), before),
        moved,
    ),
    Facet("the warnings filters", lambda: list(warnings.filters), _set_filters, moved),
    Facet("warnings.showwarning", lambda: warnings.showwarning, lambda old: setattr(warnings, "showwarning", old)),
    Facet("the signal handlers", _handlers, _set_handlers, _told_handlers),
    Facet(
        "the cores that it may run on",
        lambda: os.sched_getaffinity(0),
        lambda cores: os.sched_setaffinity(0, cores),
        instead,
    ),
    Facet("Python's random generator", random.getstate, random.setstate, quiet),
    Facet("numpy's random generator", _numpy_state, _set_numpy_state, quiet),
)
"""Restored in this order."""
THREADS: Final = Facet(
    "the running threads", lambda: {one.ident: one.name for one in threading.enumerate()}, None, _told_threads
)
"""Apart from the others, since torch.compile keeps threads of its own."""
