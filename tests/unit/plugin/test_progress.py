import pytest

from peftbench.plugin.progress import describe


@pytest.mark.parametrize(
    ("done", "total", "elapsed_s", "line"),
    [
        (1, 5, 2.0, "1 of 5 cases, about 8 s left"),
        (100, 288, 120.0, "100 of 288 cases, about 4 min left"),
        (288, 288, 300.0, "288 of 288 cases"),
    ],
)
def test_the_rest_takes_as_long_as_what_was(done: int, total: int, elapsed_s: float, line: str) -> None:
    assert describe(done, total, elapsed_s) == line
