"""The time that each pass of a case takes, and the pass that is running when a failure happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """Adds up the time of named passes."""

    seconds: dict[str, float] = field(default_factory=dict)
    current: str = ""
    """The name of the pass that began last."""
    tell: Callable[[str], object] | None = None
    """Is called with the name of each pass before it begins, outside its time."""

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Add the time of the context to the pass called `name`."""
        self.current = name
        if self.tell is not None:
            self.tell(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
