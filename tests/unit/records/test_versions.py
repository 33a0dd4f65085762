import pytest

from peftbench.errors import UserError
from peftbench.records.versions import bring_up_to_date


@pytest.mark.parametrize(
    ("kind", "told"), [("peftbench/run/", "this release reads"), ("another/", "is no peftbench/run")]
)
def test_of_a_long_schema_the_beginning_is_shown(kind: str, told: str) -> None:
    schema = kind + "9" * 100
    with pytest.raises(UserError, match=told) as caught:
        bring_up_to_date({"schema": schema}, "peftbench/run/1", {}, "f")
    assert f"its schema is '{schema[:60]}'" in str(caught.value)


def test_an_older_file_goes_through_every_version_between() -> None:
    steps = {number: lambda data, number=number: {**data, "seen": [*data["seen"], number]} for number in (1, 2, 3)}
    assert bring_up_to_date({"schema": "k/2", "seen": []}, "k/4", steps, "f") == {"seen": [2, 3]}
    assert bring_up_to_date({"schema": "k/4", "seen": []}, "k/4", steps, "f") == {"seen": []}
    with pytest.raises(UserError, match="upgrade peftbench"):
        bring_up_to_date({"schema": "k/5"}, "k/4", steps, "f")
