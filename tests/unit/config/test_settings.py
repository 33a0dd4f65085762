from pathlib import Path

import pytest

from peftbench.config.options import Question, flag_name
from peftbench.config.retired import refuse_retired, refuse_unknown
from peftbench.config.settings import Settings, options
from peftbench.errors import UserError
from peftbench.gate.constants import Rule


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
        ("batch_sizes", "8,x", "must be a whole number"),
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


def test_the_rule_of_several_sources_is_read_together_and_the_most_important_wins() -> None:
    settings = Settings.read({"gate_rule": ["limit=0.03", "alpha=0.01"]}, {"gate_rule": "limit=0.04,power=0.8"})
    assert settings.rule == Rule(limit=0.03, alpha=0.01, power=0.8)


@pytest.mark.parametrize("text", ["limit", "limits=0.03", "limit=7"])
def test_a_bad_constant_names_the_option_and_what_is_allowed(text: str) -> None:
    with pytest.raises(UserError, match=rf"^--peftbench-gate-rule={text}: [^\n]*limit[^\n]*peftbench list rules"):
        Settings.read({"gate_rule": [text]})


def test_a_setting_of_an_earlier_version_is_refused_with_what_replaced_it() -> None:
    with pytest.raises(UserError, match=r"^gate-limit is gone: write gate-rule limit="):
        refuse_unknown({"gate-limit": 0.03})
    with pytest.raises(UserError, match=r"^--peftbench-compile is gone: write --peftbench-execution compile$"):
        refuse_retired(["compile"])
    refuse_retired(options())


def test_every_option_answers_one_question_and_children_get_what_is_not_the_parents() -> None:
    assert {option.question for option in options().values()} == set(Question)
    assert {name for name, option in options().items() if option.launches} == {
        *("gate", "against", "record", "launches", "gpus"),
    }
    assert all(option.parent for option in options().values() if option.launches)


def test_a_comparison_is_written_where_something_is_compared() -> None:
    with pytest.raises(UserError, match=r"^--peftbench-diff-json needs --peftbench-gate or --peftbench-against"):
        Settings.read({"diff_json": "d.json"})
    for name, value in (("gate", "true"), ("against", "v1")):
        assert Settings.read({"diff_json": "d.json", name: value}).diff_json


@pytest.mark.parametrize(("name", "value"), [("candidate", "v2"), ("bisect", "true")])
def test_what_only_a_comparison_of_states_follows_is_refused_without_one(name: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"^--peftbench-{name} needs --peftbench-against"):
        Settings.read({name: value})
    assert getattr(Settings.read({name: value, "against": "v1"}), name)
