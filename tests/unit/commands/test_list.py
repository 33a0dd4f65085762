from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from peftbench.cli import main
from peftbench.errors import UnsupportedError, UserError
from peftbench.matrix import listing
from peftbench.matrix.catalogue import Catalogue
from peftbench.models import building
from peftbench.models.presets import PRESETS, ModelSource, Preset

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.tasks.base import Task

KINDS = ("methods", "tasks", "models", "workloads")

HIDDEN: int = next(preset for preset in PRESETS if preset.name == "tiny").config["hidden_size"]


@pytest.fixture(scope="module")
def few() -> Catalogue:
    """A catalogue with a method of each sort, and a model that is too narrow for one of them."""
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    narrow = Preset(name="narrow", summary="", model_type="bert", config={**config, "vocab_size": 100})
    everything = Catalogue.load(models=[narrow])
    names = ("full", "bitfit", "pfeiffer", "compacter", "lora", "pissa", "prompt-tuning")
    return replace(everything, methods={name: everything.methods[name] for name in names})


def only(catalogue: Catalogue, method: str) -> Catalogue:
    return replace(catalogue, methods={method: catalogue.methods[method]})


def arguments(kind: str) -> list[str]:
    return ["list", kind, *(["--no-parameters"] if kind == "methods" else [])]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_listed(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(kind), "--json"]) == 0
    names = [description["name"] for description in json.loads(capsys.readouterr().out)]
    assert names == list(getattr(Catalogue.load(), kind))


def test_tasks_name_their_classes_since_data_must_have_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "tasks"]) == 0
    assert "negative" in capsys.readouterr().out


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_the_table_fits_the_terminal(
    kind: str, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(arguments(kind)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    first = [line.split()[0] for line in lines if line[:1].strip()]
    assert next(iter(getattr(Catalogue.load(), kind))) in first


def test_nothing_heavy_is_imported_where_no_parameters_are_asked_for() -> None:
    code = (
        "import sys; from peftbench.cli import main\n"
        f"for kind in {KINDS}: main(['list', kind, *(['--no-parameters'] if kind == 'methods' else [])])\n"
        "heavy = {'torch', 'transformers', 'peft', 'datasets', 'pytest'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_parameters_are_those_of_the_model_with_the_method_applied(few: Catalogue) -> None:
    found = {description["name"]: description for description in listing.methods(few, "tiny", "nli")}
    parameters = {name: description["parameters"] for name, description in found.items()}
    head = HIDDEN * 3 + 3
    assert parameters["lora"] == {"body": 2 * 2 * 2 * 8 * HIDDEN, "head": head}  # layers, query and value, two factors
    assert parameters["pissa"] == parameters["lora"]  # starts from the weights' values
    size = HIDDEN // 16
    assert parameters["pfeiffer"] == {"body": 2 * (2 * HIDDEN * size + size + HIDDEN), "head": head}


def test_a_method_that_does_not_fit_the_model_has_the_reason(few: Catalogue) -> None:
    (found,) = listing.methods(only(few, "compacter"), "narrow", "nli")
    assert found["parameters"].keys() == {"reason"}
    assert found["parameters"]["reason"].startswith("compacter(phm_dim=4): does not divide the bottleneck size 2")


def test_a_method_that_breaks_on_the_model_does_not_end_the_list(
    few: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("no embeddings\nin this model")

    monkeypatch.setattr(type(few.methods["bitfit"]), "apply", broken)
    (found,) = listing.methods(only(few, "bitfit"), "tiny", "nli")
    assert found["parameters"] == {"reason": "AttributeError: no embeddings"}


def test_what_a_model_cannot_do_at_all_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UnsupportedError("transformers has no AutoModelForMultipleChoice for it")

    monkeypatch.setattr(building, "build_unloaded", refuse)
    assert main(["list", "methods", "--task=copa"]) == 2
    assert capsys.readouterr().err == "peftbench: transformers has no AutoModelForMultipleChoice for it\n"


def test_a_large_model_is_never_built(few: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []
    build = building.build_unloaded

    def told(source: ModelSource, task: Task, *, device: str = "meta") -> PreTrainedModel:
        devices.append(device)
        return build(source, task, device=device)

    monkeypatch.setattr(building, "build_unloaded", told)
    (full,) = listing.methods(only(few, "full"), "xlmr-large", "nli")
    assert set(devices) == {"meta"}
    assert full["parameters"] == {"body": 558_840_832, "head": 1024 * 1024 + 1024 + 1024 * 3 + 3}


def test_a_task_that_a_method_cannot_do_has_the_reason(few: Catalogue) -> None:
    found = {description["name"]: description for description in listing.methods(few, "tiny", "copa")}
    prompt = found["prompt-tuning"]
    assert prompt["tasks"] == ["nli", "sentiment", "paraphrase", "sft"]
    assert prompt["parameters"] == {"reason": prompt["not_tasks"]["copa"]}
    assert found["lora"]["tasks"] == list(few.tasks)
    assert found["lora"]["parameters"]["head"] == HIDDEN + 1


def test_the_table_of_methods_has_parameters_and_reasons(
    few: Catalogue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Catalogue, "load", lambda: few)
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["list", "methods", "--model=narrow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    assert rows["method"] == ["method", "family", "body", "head", "merge", "tasks", "source"]
    assert rows["lora"][:7] == ["lora", "paper,", "peft", "4.10k", "195", "yes", "all"]
    assert any(line.startswith("  compacter: compacter(phm_dim=4): does not divide") for line in lines)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--model=tinny"], "unknown model 'tinny': did you mean 'tiny'?"),
        (["--task=nil"], "unknown task 'nil': did you mean 'nli'?"),
        (["--model=./nowhere"], "model folder './nowhere' does not exist"),
    ],
)
def test_a_name_that_does_not_exist_is_one_line(
    wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "methods", *wrong]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_options_of_methods_are_refused_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["list", "tasks", "--model=tiny"])
    assert caught.value.code == 2
    assert "--model" in capsys.readouterr().err


def test_a_hub_model_that_is_not_there_is_one_line(few: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"^[^\n]*'nobody/nothing'[^\n]*$"):
        list(listing.methods(few, "nobody/nothing", None))


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "utf-8"])
def test_a_terminal_of_any_encoding_gets_a_readable_list(encoding: str) -> None:
    command = [sys.executable, "-m", "peftbench.cli", "list", "tasks"]
    result = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert result.stderr == b""
    head, line, *rows = result.stdout.decode(encoding).splitlines()
    assert head.split()[:2] == ["task", "classes"]
    assert set(line.strip()) == {"\u2500" if encoding == "utf-8" else "-"}
    assert rows[0].split()[:2] == ["nli", "entailment,"]
