from pathlib import Path

import pytest

from peftbench.config.settings import Settings, flag_name, options, refuse_unknown
from peftbench.errors import UserError


def test_the_first_source_that_has_a_value_wins() -> None:
    settings = Settings.read({"seed": "3", "dtype": None}, {"seed": "4", "dtype": "bfloat16"}, {"threads": 2})
    assert (settings.seed, settings.dtype, settings.threads) == (3, "bfloat16", 2)


def test_lists_and_numbers_of_a_toml_table_read_like_text() -> None:
    table = {"methods": ["full", "lora(r=2,bias=all)"], "batch_sizes": [1, 32], "max_time": 2.5, "resume": True}
    settings = Settings.read(table)
    assert settings.methods == ("full", "lora(r=2,bias=all)")
    assert settings.batch_sizes == (1, 32)
    assert settings.max_time == 2.5
    assert settings.resume is True
    assert settings == Settings.read(
        {"methods": "full, lora(r=2,bias=all)", "batch_sizes": "1,32", "max_time": "2.5", "resume": "true"}
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("batch_sizes", "8,0", "must be at least 1"),
        ("batch_sizes", "8,x", "invalid literal"),
        ("methods", ",", "names nothing"),
        ("dtype", "float8", "unknown value 'float8'"),
        ("reference", "bas", "did you mean 'base'?"),
        ("threads", "0", "must be at least 1"),
        ("max_time", "nan", "must be at least 0"),
        ("rounds", "-1", "must be at least 1"),
        ("resume", "maybe", "known: false, true"),
    ],
)
def test_a_bad_value_is_one_line_with_option_value_and_what_is_allowed(name: str, text: str, said: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
        Settings.read({name: text})
    message = str(caught.value)
    assert message.startswith(f"{flag_name(name)}={text}: ")
    assert said in message


def test_the_identity_holds_what_changes_a_number_and_nothing_else() -> None:
    base = Settings()
    assert base.identity() == Settings(json=Path("x"), resume=True, max_time=3.0, rounds=7).identity()
    for other in (Settings(seed=1), Settings(dtype="bfloat16"), Settings(threads=2), Settings(data="./d")):
        assert base.identity() != other.identity()


def test_every_option_has_a_help_text() -> None:
    assert [name for name, option in options().items() if not option.help.strip()] == []


def test_an_unknown_key_of_the_table_is_refused() -> None:
    refuse_unknown({"batch-sizes": [1], "seq_len": 4})
    with pytest.raises(UserError, match="'batchsizes': did you mean 'batch-sizes'"):
        refuse_unknown({"batchsizes": [1]})
