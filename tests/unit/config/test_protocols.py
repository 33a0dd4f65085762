import pytest

from peftbench.config import choices
from peftbench.config.offered_load import OfferedLoad
from peftbench.config.protocols import PROTOCOLS
from peftbench.config.settings import Settings, options
from peftbench.config.warm_up import WarmUp
from peftbench.errors import UserError
from peftbench.records.record import Run
from peftbench.report.terminal import head

FINGERPRINT = dict.fromkeys(("cpu", "threads", "python", "torch", "transformers", "peft"), "1")


def test_a_protocol_counts_where_nothing_is_given() -> None:
    assert tuple(PROTOCOLS) == choices.PROTOCOLS
    found = Settings.read({"steps": "7", "dtype": None}, {"protocol": "peft-metamathqa", "learning_rates": [1e-3]})
    assert (found.steps, found.learning_rates) == (7, (1e-3,))
    assert (found.dtype, found.eval_every, found.schedule, found.warm_up) == ("bfloat16", 250, "cosine", "10%")
    assert (found.metric, found.answers, found.batch_sizes, found.tasks) == (
        "exact_match",
        "last-number",
        (4,),
        ("sft",),
    )
    paper = Settings.read({"protocol": "adapter-efficiency"})
    assert (paper.epochs, paper.warm_up, paper.weight_decay, paper.pad_to_length) == (50, "2000", 0.1, True)
    assert (paper.multitask_epochs, paper.multitask_warm_up, paper.multitask_weight_decay) == (10, "10000", 0.01)
    assert (paper.autocast, paper.learning_rates, paper.patience) == (True, (3e-5,), 3)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_names_settings_that_exist_and_values_that_they_take(name: str) -> None:
    assert PROTOCOLS[name].keys() <= options().keys()
    Settings.read({"protocol": name})


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(UserError, match=r"--peftbench-protocol=peft: unknown value 'peft'"):
        Settings.read({"protocol": "peft"})


def test_the_table_names_the_protocol_and_what_differs_from_it() -> None:
    def line(**given: str) -> list[str]:
        settings = Settings.read({"protocol": "adapter-efficiency", **given}).identity(studies=True)
        run = Run(settings={**settings, "device": "cpu", "model": "x"}, fingerprint=FINGERPRINT, records=())
        return [text for text in head(run) if text.startswith("protocol")]

    assert line() == ["protocol adapter-efficiency"]
    assert line(warm_up="10%", dtype="bfloat16", weight_decay="0.1") == [
        "protocol adapter-efficiency, but dtype bfloat16, warm_up 10%"
    ]


def test_records_of_versions_without_the_new_settings_stay_comparable() -> None:
    # Those of version 0.4.0, which files in use hold; its `compile` is read as `execution`.
    assert Settings().identity().keys() == {
        *("attention", "autocast", "data", "device", "dtype", "execution", "gradient_checkpointing", "model"),
        *("optimizer", "reference", "seed", "seq_len", "tf32", "threads"),
    }
    assert Settings().identity(studies=True).keys() - Settings().identity().keys() == {
        *("learning_rates", "epochs", "stop", "patience", "eval_every", "target", "metric", "train_rows", "eval_rows"),
        *("group_by_length", "test_data", "requests"),
    }
    assert Settings(packing=True).identity()["packing"] is True
    assert Settings(schedule="cosine").identity(studies=True)["schedule"] == "cosine"


@pytest.mark.parametrize(("text", "steps"), [("10%", 8), ("0", 0), ("2000", 2000), ("100%", 75), ("2e3", 2000)])
def test_a_warm_up_is_a_share_or_a_number_of_steps(text: str, steps: int) -> None:
    assert WarmUp.read(text).steps(75) == steps


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "101%", "10%%", "nan", "inf"])
def test_anything_else_is_no_warm_up(text: str) -> None:
    with pytest.raises(ValueError, match="must be a share of the steps"):
        WarmUp.read(text)


@pytest.mark.parametrize(("text", "per_s"), [("75%", 30.0), ("125%", 50.0), ("20", 20.0), ("0.5", 0.5)])
def test_an_offered_load_is_a_share_of_the_capacity_or_a_rate(text: str, per_s: float) -> None:
    assert OfferedLoad.read(text).per_s(40.0) == pytest.approx(per_s)
    assert Settings.read({"offered_load": f"{text},90%"}).offered_load == (text, "90%")


@pytest.mark.parametrize("text", ["0", "0%", "-1", "nan", "inf", "50%%", "50% a", "much"])
def test_anything_else_is_no_offered_load(text: str) -> None:
    with pytest.raises(UserError, match=f"--peftbench-offered-load={text}: must be shares of the capacity"):
        Settings.read({"offered_load": text})
