from __future__ import annotations

import pytest

from peftbench.tasks.fields import class_id, class_problem

STARS = ("1", "2", "3", "4")


@pytest.mark.parametrize(
    ("labels", "value", "expected"),
    [
        (("no", "yes"), 1, 1),
        (("no", "yes"), "1", 1),
        (("no", "yes"), "yes", 1),
        (("no", "yes"), 2, None),
        (("no", "yes"), True, None),
        (STARS, 1, 0),
        (STARS, "1", 0),
        (STARS, 4, 3),
        (STARS, 0, None),
        (("10", "20"), 20, 1),
        (("10", "20"), 1, 1),
    ],
)
def test_a_class_is_given_by_name_else_by_number(labels: tuple[str, ...], value: object, expected: int | None) -> None:
    assert class_id(value, labels) == expected


def test_numbers_are_offered_where_they_are_no_names() -> None:
    assert class_problem("stars", 0, STARS) == "stars is 0, not one of 1, 2, 3, 4"
    assert class_problem("label", 2, ("no", "yes")) == "label is 2, not one of no, yes (or 0 to 1)"
