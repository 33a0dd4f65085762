"""What outlives a case on the heap, and which of it later collections skip.

Each collection would otherwise walk through all objects of torch, transformers and PEFT, which takes 0.2 s. Frozen
objects are skipped, and reference cycles among them are not found. Objects that a group's cases share are therefore
not frozen, unless libraries were imported meanwhile; when such a group ends, all objects are looked through once.
"""

from __future__ import annotations

import gc
from typing import Final

MANY: Final = 10_000
"""Objects above which a collection takes more than some ms. An import of a library leaves more, a small group fewer."""


class Heap:
    """Freezes the objects that survive a collection, and knows whether a group's are among them."""

    def __init__(self) -> None:
        self._holds_group = True  # what was made before is unknown

    def settle(self) -> None:
        """Freeze what a collection between two cases of a group has left, if it is much."""
        if len(gc.get_objects()) > MANY:
            gc.freeze()
            self._holds_group = True

    def thaw(self, *, anyway: bool = False) -> None:
        """Let the next collection look through all objects: if frozen ones may be what a group shared, or anyway."""
        if self._holds_group or anyway:
            gc.unfreeze()
            self._holds_group = True

    def freeze(self) -> None:
        """Freeze all that is left after a group was released and collected."""
        gc.freeze()
        self._holds_group = False
