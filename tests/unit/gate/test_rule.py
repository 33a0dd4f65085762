from pathlib import Path

import pytest

from peftbench.errors import UserError
from peftbench.gate.rule import Rule


def test_every_constant_is_an_option_with_a_line_of_help() -> None:
    options = {option.name: option for option in Rule.options()}
    assert set(options) == {name.replace("_", "-") for name in Rule.__dataclass_fields__}
    assert all(option.help and "\n" not in option.help for option in options.values())
    assert (options["limit"].type, options["limit"].default) == (float, 0.05)
    assert (options["more-launches"].type, options["more-launches"].default) == (int, 7)


def test_options_replace_the_named_constants_only() -> None:
    assert Rule.from_options({"max-shift": 0.1, "launches": 4, "limit": None}) == Rule(max_shift=0.1, launches=4)
    assert Rule(launches=4).all_launches == 11


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"limits": 1}, "unknown gate option 'limits': did you mean 'limit'"),
        ({"limit": 5.0}, r"gate limit 5\.0: must be from 0\.0 to 1\.0"),
        ({"alpha": 0.0}, r"gate alpha 0\.0: must be between 0\.0 and 1\.0"),
        ({"launches": 0}, "gate launches 0: must be from 1 to 1000"),
        ({"tolerance": 0.05}, r"gate tolerance 0\.05: must be below the limit 0\.05"),
        ({"min-baseline": 30}, "gate min-baseline 30: must be at most 20"),
    ],
)
def test_a_bad_value_is_refused_by_name(values: dict[str, float | None], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rule.from_options(values)


def test_the_documentation_lists_every_constant_with_its_default() -> None:
    text = (Path(__file__).parents[3] / "docs" / "gate.md").read_text()
    missing = [
        option.name for option in Rule.options() if f"| {option.name} | {option.default} | {option.help} |" not in text
    ]
    assert missing == []
