"""The soak test tells growth from noise; that nothing is lost is told by running it."""

from dataclasses import replace

import pytest
from tools.soak import GROWTH, Step, grown

STEP = Step(memory_mb=66, open_files=6, threads=3, temporary=1, folder_kb=140)


def test_a_column_a_field() -> None:
    assert len(GROWTH) == len(Step.__dataclass_fields__)


def test_what_stays_as_it_is_has_not_grown() -> None:
    assert grown([replace(STEP, memory_mb=60, folder_kb=90), *[STEP] * 9]) == []
    assert grown([STEP]) == []


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"open_files": 7}, "open files: 6 in the first 3 steps, 7 in the last"),
        ({"memory_mb": 80}, "memory MB: 66 in the first 3 steps, 80 in the last"),
        ({"folder_kb": 200}, "folder kB: 140 in the first 3 steps, 200 in the last"),
    ],
)
def test_what_grows_is_named(change: dict[str, int], column: str) -> None:
    assert grown([*[STEP] * 6, *[replace(STEP, **change)] * 4]) == [column]
