from peftbench.errors import UserError, unknown


def test_unknown_names_the_nearest_and_all_that_exist() -> None:
    assert str(unknown("method", "lorra", ["full", "lora"])) == (
        "unknown method 'lorra': did you mean 'lora'? known: full, lora"
    )
    assert str(unknown("method", "xyz", ["full", "lora"])) == "unknown method 'xyz': known: full, lora"


def test_a_name_from_a_file_cannot_break_the_line() -> None:
    assert str(UserError("f: case a\r\nb\x1b[31m\ud800: é")) == "f: case a\\r\\nb\\x1b[31m\\ud800: é"
