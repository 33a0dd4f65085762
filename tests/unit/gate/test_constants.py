import pytest

from peftbench.errors import UserError
from peftbench.gate.constants import Rule


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
