"""The command of a case names the case, and every setting that is not the default."""

import shlex
from dataclasses import replace

from tests.unit.pages.specimens import SETTINGS, small_run, trainings

from peftbench.config.options import flag_name
from peftbench.config.settings import Settings, options
from peftbench.pages.command import command


def asked(text: str) -> Settings:
    """Return the settings that pytest would read from a command."""
    names = {flag_name(name): name for name in options()}
    words = [word.partition("=") for word in shlex.split(text) if word.startswith("--peftbench-")]
    return Settings.read({names[name]: value or "true" for name, _, value in words})


def test_the_command_asks_for_the_case_and_its_settings() -> None:
    run = replace(small_run(), settings={**SETTINGS, "execution": "compile", "dtype": "bfloat16", "gone": 3})
    record = replace(run.records[0], method="lora(r=16,target_modules=all-linear)", stop="rounds")
    text = command(record, run)
    found = asked(text)
    assert text.startswith("pytest benches/ --benchmark-only ")
    assert (found.workloads, found.methods, found.tasks) == (("train_step",), (record.method,), ("nli",))
    assert (found.batch_sizes, found.rounds) == ((2,), 30)
    assert (found.execution, found.dtype, found.model, found.device) == ("compile", "bfloat16", "tiny", "cpu")
    assert "gone" not in text
    assert "reference" not in text


def test_the_command_of_a_training_names_seed_and_rate_and_a_hostile_name_stays_one_word() -> None:
    run = small_run()
    found = asked(command(trainings()[1], run))
    assert (found.seed, found.seeds, found.learning_rates) == (1, 1, (0.001,))
    text = command(replace(run.records[0], id="mine; rm -rf ~[a]", task="`rm -rf ~`"), run)
    assert shlex.split(text)[-2:] == ["-k", "mine; rm -rf ~"]
    assert "--peftbench-tasks=`rm -rf ~`" in shlex.split(text)
