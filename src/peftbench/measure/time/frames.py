"""Room on the interpreter's stack of frames, so that no round pays for the end of a chunk.

CPython keeps its frames in chunks of 16 KiB. A call that does not fit into the chunk maps a new one from the system,
and its return gives the chunk back. A function that makes such a call again and again therefore maps memory each time.
Whether a round does so depends on how deep its caller's frames happen to lie: one frame more, as between two releases
of a library, made inferences of DoRA 7 % slower, and moved to another method when the order of the cases changed.

Source: https://github.com/python/cpython/issues/142183. Releases of 3.13 and later that hold its fix keep one chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

SLOTS: Final = 66_000
"""Slots of a frame, 8 bytes each. Chunks have sizes of powers of two: 516 KiB need 1 MiB, half of which stays free."""


def with_room(run: Callable[[], T]) -> T:
    """Call a function whose callees have some 500 KiB for their frames, and return what it returns."""
    return run()


with_room.__code__ = with_room.__code__.replace(co_stacksize=SLOTS)
