"""How long each pass of a case takes, for the shares that a run reports, and which one a failure happened in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """Adds up the time of named passes."""

    seconds: dict[str, float] = field(default_factory=dict)
    current: str = ""
    """The pass that was begun last."""

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Add what runs within to the pass called `name`."""
        self.current = name
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
