"""A child does not outlive its parent: nobody waits for what it measures, and it would disturb whatever runs next."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(parent: int) -> None:
    """Have the system kill this process when its parent, whose id this is, has ended: on Linux alone."""
    if sys.platform == "linux" and os.getppid() == parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def is_orphan(parent: int) -> bool:
    """Return whether the process with this id is no longer this one's parent; 0 is an id that is not known."""
    return os.name == "posix" and parent not in {0, os.getpid(), os.getppid()}
