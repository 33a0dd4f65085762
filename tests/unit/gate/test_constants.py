import pytest

from peftbench.errors import UserError
from peftbench.gate.constants import Rule

LEAST = {
    "launches": 1,
    "more-launches": 0,
    "launches-alone": 0,
    "siblings": 1,
    "session-launches": 1,
    "full-baseline": 2,
    "min-baseline": 2,
    "min-cases": 2,
    "prior-launches": 0,
    "file-bytes": 0,
}
"""Constant that is a whole number -> its least value."""
TOGETHER = {"full-baseline": "min-baseline=2,", "min-baseline": "full-baseline=1000,"}
"""Constant -> what must be given with its bounds."""


def test_every_constant_has_a_name_and_a_line_of_help() -> None:
    constants = {constant.name: constant for constant in Rule.constants()}
    assert {constant.field for constant in constants.values()} == set(Rule.__dataclass_fields__)
    assert all(constant.help and "\n" not in constant.help for constant in constants.values())
    assert (constants["limit"].type, constants["limit"].default) == (float, 0.05)
    assert (constants["more-launches"].type, constants["more-launches"].default) == (int, 7)


def test_the_named_constants_are_replaced_and_the_last_value_counts() -> None:
    assert Rule.read("max-shift=0.1, launches=9,launches=4") == Rule(max_shift=0.1, launches=4)
    assert Rule.read("max_shift=0.1") == Rule(max_shift=0.1)
    assert Rule.read("") == Rule()
    assert Rule(launches=4).all_launches == 11


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits=1", "unknown constant 'limits': did you mean 'limit'"),
        ("limit", r"limit: write limit=VALUE, such as limit=0\.05"),
        ("limit=", r"limit=: write limit=VALUE"),
        ("limit=5", r"limit 5\.0: must be from 0\.0 to 1\.0"),
        ("limit=nan", r"limit nan: must be from 0\.0 to 1\.0"),
        ("limit=much", "limit 'much': must be a number"),
        ("alpha=0", r"alpha 0\.0: must be between 0\.0 and 1\.0"),
        ("launches=0", "launches 0: must be from 1 to 1000"),
        ("launches=2.5", r"launches '2\.5': must be a whole number"),
        ("tolerance=0.05", r"tolerance 0\.05: must be below the limit 0\.05"),
        ("min-baseline=30", "min-baseline 30: must be at most 20"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_by_name(text: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"^{message}[^\n]*$"):
        Rule.read(text)


@pytest.mark.parametrize(("name", "least"), LEAST.items())
def test_a_whole_number_reaches_to_its_bounds_and_not_beyond(name: str, least: int) -> None:
    assert set(LEAST) == {constant.name for constant in Rule.constants() if constant.type is int}
    most = 2**40 if name == "file-bytes" else 1000
    for value in (least, most):
        rule = Rule.read(f"{TOGETHER.get(name, '')}{name}={value}")
        assert getattr(rule, name.replace("-", "_")) == value
    for value in (least - 1, most + 1):
        with pytest.raises(UserError, match=f"{name} {value}: must be from {least} to {most}"):
            Rule.read(f"{TOGETHER.get(name, '')}{name}={value}")
