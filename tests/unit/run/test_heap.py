"""What is frozen between cases, and that what a group shared is found when it ends."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from peftbench.run.heap import MANY, Heap


class Node:
    """Refers to itself, so that only a collection finds it."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def heap() -> Iterator[Heap]:
    """A heap on which all earlier groups have ended."""
    found = Heap()
    gc.collect()
    found.freeze()
    yield found
    found.thaw(anyway=True)


def collected_at_the_end(heap: Heap, nodes: list[Node]) -> tuple[bool, int]:
    """End a group, and tell whether its nodes are gone, and how many objects the collection skipped."""
    first = weakref.ref(nodes[0])
    nodes.clear()
    heap.thaw()
    skipped = gc.get_freeze_count()
    gc.collect()
    return first() is None, skipped


def test_a_small_group_is_collected_without_a_look_at_all_libraries(heap: Heap) -> None:
    libraries = gc.get_freeze_count()
    nodes = [Node() for _ in range(10)]
    gc.collect()
    heap.settle()
    assert gc.get_freeze_count() == libraries
    assert collected_at_the_end(heap, nodes) == (True, libraries)


def test_a_group_during_which_libraries_were_imported_is_collected_with_them(heap: Heap) -> None:
    libraries = gc.get_freeze_count()
    nodes = [Node() for _ in range(MANY)]
    gc.collect()
    heap.settle()
    assert gc.get_freeze_count() >= libraries + MANY
    assert collected_at_the_end(heap, nodes) == (True, 0)
    heap.freeze()
    assert collected_at_the_end(heap, [Node()])[1] > 0  # the next group has a part of its own again
