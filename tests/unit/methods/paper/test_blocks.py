import pytest

from peftbench.methods.paper.blocks import layer_numbers


@pytest.mark.parametrize(
    ("text", "layers"),
    [("all", [0, 1, 2, 3]), ("2", [2]), ("1-3", [1, 2, 3]), ("3+0-1", [0, 1, 3]), ("0-2+1-3", [0, 1, 2, 3])],
)
def test_layers_by_name(text: str, layers: list[int]) -> None:
    assert layer_numbers(text, 4) == layers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4", "no layer 4; the model has layers 0 to 3"),
        ("2-9", "no layer 9"),
        ("3-1", "3-1 is an empty range"),
        ("", "'' is no layer"),
        ("-1", "'-1' is no layer"),
        ("0,1", "'0,1' is no layer; write all, or numbers and ranges such as 0-3"),
    ],
)
def test_layers_that_cannot_be_read_or_do_not_exist(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_numbers(text, 4)
