"""Ends a child when its parent has ended.

Nobody waits for what an orphan measures, and it would disturb later measurements.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(parent: int) -> None:
    """Make the system kill this process when its parent ends, on Linux.

    Args:
        parent: Process id of the parent.
    """
    if sys.platform == "linux" and os.getppid() == parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def is_orphan(parent: int) -> bool:
    """Tell whether the process with this id is not the parent of this process any more; 0 stands for an unknown id."""
    return os.name == "posix" and parent not in {0, os.getpid(), os.getppid()}
