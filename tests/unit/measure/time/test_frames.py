"""The interpreter's chunks of frames, counted by the pages that the system maps for them."""

import sys
from resource import RUSAGE_SELF, getrusage

import pytest

from peftbench.measure.time.frames import with_room

CALLS = 100


def _leaf() -> None:
    """Take a frame."""


def _pages_of_calls() -> int:
    """Return how many pages were mapped while a function was called again and again."""
    before = getrusage(RUSAGE_SELF).ru_minflt
    for _ in range(CALLS):
        _leaf()
    return getrusage(RUSAGE_SELF).ru_minflt - before


def _most_pages(depth: int) -> int:
    """Return the most pages of the calls at any depth down to this one."""
    return max(_pages_of_calls(), _most_pages(depth - 1)) if depth else _pages_of_calls()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="later patch releases of 3.13 keep a chunk")
def test_at_some_depth_each_call_maps_a_chunk_of_frames() -> None:
    assert _most_pages(400) >= CALLS


def test_no_call_maps_a_chunk_of_frames_where_there_is_room() -> None:
    assert with_room(lambda: _most_pages(400)) < CALLS // 2


def test_what_the_function_returns_is_returned() -> None:
    assert with_room(lambda: 3) == 3
