"""Python calls and executed bytecodes of one call, as the interpreter counts them. No clock is involved."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Final

from peftbench.errors import UnsupportedError

if TYPE_CHECKING:
    from _typeshed import TraceFunction

_TOOL_NAME: Final = "peftbench"
_TOOL_IDS: Final = (4, 3, 5, 2, 1, 0)
"""Tool ids of sys.monitoring in the order of trial: first those that no debugger, profiler and so on claims."""


@dataclass(frozen=True, slots=True)
class PythonWork:
    """Work of the interpreter in the calling thread; comparable within one minor version of Python."""

    calls: int
    """Python functions entered. A generator counts each time it is resumed."""
    bytecodes: int
    """Instructions executed, counted before specialisation, which depends on how often code ran."""


if sys.version_info >= (3, 12):

    def trace(run: Callable[[], object]) -> PythonWork:
        """Call `run` once and count its Python calls and bytecodes. Other tools of `sys.monitoring` go on working.

        Raises:
            UnsupportedError: every tool id of `sys.monitoring` is taken.
        """
        monitoring = sys.monitoring
        events = monitoring.events
        thread = threading.get_ident()
        own = sys._getframe().f_code  # noqa: SLF001 (the only way to one's own code)
        calls = bytecodes = 0

        def at_call(code: CodeType, *_: object) -> None:
            nonlocal calls
            if code is not own and threading.get_ident() == thread:
                calls += 1

        def at_instruction(code: CodeType, _offset: int) -> None:
            nonlocal bytecodes
            if code is not own and threading.get_ident() == thread:
                bytecodes += 1

        tool = next((tool for tool in _TOOL_IDS if monitoring.get_tool(tool) is None), None)
        if tool is None:
            raise UnsupportedError("bytecodes cannot be counted: all tool ids of sys.monitoring are taken")
        handlers: dict[int, Callable[..., object]] = {
            events.PY_START: at_call,
            events.PY_RESUME: at_call,
            events.PY_THROW: at_call,
            events.INSTRUCTION: at_instruction,
        }
        monitoring.use_tool_id(tool, _TOOL_NAME)
        try:
            for event, handler in handlers.items():
                monitoring.register_callback(tool, event, handler)
            monitoring.set_events(tool, sum(handlers))
            run()
        finally:
            monitoring.set_events(tool, events.NO_EVENTS)
            for event in handlers:
                monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)
        return PythonWork(calls=calls, bytecodes=bytecodes)

else:

    def trace(run: Callable[[], object]) -> PythonWork:
        """Call `run` once and count its Python calls and bytecodes. The trace function of before is put back after."""
        calls = bytecodes = 0

        def in_frame(_frame: FrameType, event: str, _argument: object) -> TraceFunction:
            nonlocal bytecodes
            if event == "opcode":
                bytecodes += 1
            return in_frame

        def at_call(frame: FrameType, _event: str, _argument: object) -> TraceFunction:
            nonlocal calls
            calls += 1
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True
            return in_frame

        previous = sys.gettrace()
        sys.settrace(at_call)
        try:
            run()
        finally:
            sys.settrace(previous)
        return PythonWork(calls=calls, bytecodes=bytecodes)
