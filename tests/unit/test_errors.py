from peftbench.errors import unknown


def test_unknown_names_the_nearest_and_all_that_exist() -> None:
    assert str(unknown("method", "lorra", ["full", "lora"])) == (
        "unknown method 'lorra': did you mean 'lora'? known: full, lora"
    )
    assert str(unknown("method", "xyz", ["full", "lora"])) == "unknown method 'xyz': known: full, lora"
