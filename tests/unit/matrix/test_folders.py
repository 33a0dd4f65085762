from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from peftbench.config.parsing import comma_separated
from peftbench.errors import UserError
from peftbench.matrix.cases import matrix, select_methods
from peftbench.matrix.catalogue import Catalogue
from peftbench.matrix.folders import LONGEST, names_of, with_folders
from peftbench.records.ids import CaseId


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def saved(*places: str) -> None:
    for place in places:
        Path(place).mkdir(parents=True)
        Path(place, "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))


def test_folders_and_patterns_become_methods_beside_the_others(catalogue: Catalogue) -> None:
    saved("my-adapter", "all/lora/rank 4", "all/vera/rank 4", "all/vera/other")
    Path("all/full").mkdir()
    words = ["lora", "./my-adapter(r=2)", "./all/*/*", "all/vera/other", "peft", "lora(target_modules=.*/q)"]
    found = with_folders(catalogue, words)
    names = [str(spec) for spec in select_methods(words, found.methods, found.folders)]
    assert names[:5] == ["lora", "my_adapter(r=2)", "lora.rank_4", "vera.other", "vera.rank_4"]
    assert "my_adapter" not in names
    assert "my_adapter" not in [str(spec) for spec in select_methods(["all"], found.methods, found.folders)]
    cases = matrix(found, methods=["./my-adapter(r=2)"], tasks=["nli"], batch_sizes=[8])
    assert [case.id for case in cases] == ["my_adapter(r=2)-nli-bs8"]


def test_the_name_follows_from_the_folder_and_no_id_is_taken_for_a_built_in_method(catalogue: Catalogue) -> None:
    saved("lora", "x/my-lora-v2")
    found = with_folders(catalogue, ["./lora", "./x/my-lora-v2"])
    (case,) = matrix(found, methods=["./x/my-lora-v2"], tasks=["nli"], batch_sizes=[1])
    assert CaseId(f"train_step[{case.id}]").method_among(catalogue.methods) == ""
    assert CaseId(f"train_step[{case.id}]").method_among(found.methods) == "my_lora_v2"
    assert found.folders["./lora"] == ("lora.2",)
    assert found.method("lora") is catalogue.method("lora")


def test_names_follow_from_the_folders_asked_for_not_from_their_order_or_where_the_checkout_is(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["./a/mine", "./b/mine", "./c/*", "./dora"]
    expected = [("a.mine",), ("b.mine",), ("x",), ("dora.2",)]
    for checkout in ("here", "there"):
        (tmp_path / checkout).mkdir()
        monkeypatch.chdir(tmp_path / checkout)
        saved("a/mine", "b/mine", "c/x", "dora")
        for order in (words, words[::-1]):
            found = with_folders(catalogue, order)
            assert [found.folders[word] for word in words] == expected
            assert found.method("b.mine").summary.endswith(f"{checkout}/b/mine")


def test_the_place_of_a_folder_is_not_in_its_name_or_digest(catalogue: Catalogue) -> None:
    saved("a/mine", "b/mine")
    found = [with_folders(catalogue, [f"{place}/mine"]).method("mine") for place in "ab"]
    assert found[0].identity == found[1].identity != ""
    Path("b/mine/adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    assert with_folders(catalogue, ["b/mine"]).method("mine").identity != found[0].identity


def test_other_weights_of_the_same_size_are_another_content(catalogue: Catalogue) -> None:
    saved("a/mine", "b/mine")
    for place, value in (("a", 0.0), ("b", 1.0)):
        save_file({"x": np.full(3, value)}, f"{place}/mine/adapter_model.safetensors")
    found = [with_folders(catalogue, [f"{place}/mine"]).method("mine") for place in "ab"]
    assert found[0].identity != found[1].identity


def test_long_names_are_cut_and_stay_apart() -> None:
    paths = [Path(f"/x/{'long' * 20}-{letter}-{'tail' * 9}") for letter in "ab"]
    names = [*names_of([paths], ["other"], here=Path("/y")).values()]
    assert len(set(names)) == 2
    assert all(len(name) <= LONGEST + 2 and name.isascii() for name in names)
    assert names_of([[Path("/x/Ünï (1)")]], [], here=Path("/y")) == {Path("/x/Ünï (1)"): "n_1"}


def test_folders_that_cannot_be_read_are_passed_over_in_lock_step_only(catalogue: Catalogue) -> None:
    with pytest.raises(UserError, match="does not exist"):
        with_folders(catalogue, ["./gone"])
    assert with_folders(catalogue, ["./gone"], lenient=True).methods == catalogue.methods


@pytest.mark.parametrize(
    ("word", "files", "told"),
    [
        ("./gone", {}, "method folder './gone' does not exist: give a folder with adapter_config.json"),
        ("./a,b", {"a,b/adapter_config.json": "{}"}, "write ? for a bracket or comma of a folder's name"),
        ("./a (2)", {"a (2)/adapter_config.json": "{}"}, "write ? for a bracket or comma of a folder's name"),
        ("./none/*", {"none/a/config.json": "{}"}, "no folder that matches holds adapter_config.json"),
        ("./a", {"a/config.json": "{}"}, "has no adapter_config.json"),
        ("./a/adapter_config.json", {"a/adapter_config.json": "{}"}, "is a file: give the folder"),
        ("./a", {"a/adapter_config.json": "{"}, "adapter_config.json:1: the file ends too early"),
        ("./a", {"a/adapter_config.json": "[]"}, "must be an object"),
        ("./a", {"a/adapter_config.json": '{"r": 4}'}, "must have a peft_type"),
        ("./a", {"a/adapter_config.json": '{"peft_type": "LORA"}', "a/adapter_model.bin": "x"}, "is pickled"),
        (
            "./a",
            {"a/adapter_config.json": '{"peft_type": "LORA"}', "a/adapter_model.safetensors": "x"},
            "cut short or broken",
        ),
        (
            "./a",
            {"a/adapter_config.json": '{"peft_type": "LORA"}', "a/training_params.json": '{"optimizer_kwarg": {}}'},
            "unknown entry 'optimizer_kwarg': did you mean 'optimizer_kwargs'",
        ),
        (
            "./a",
            {
                "a/adapter_config.json": '{"peft_type": "LORA"}',
                "a/training_params.json": '{"optimizer_kwargs": {"lr": "fast"}}',
            },
            "lr must be a number above 0, not 'fast'",
        ),
        (
            "./a",
            {
                "a/adapter_config.json": '{"peft_type": "LORA"}',
                "a/training_params.json": '{"optimizer_kwargs": {"lr": 1e999}}',
            },
            "lr must be a number above 0, not inf",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(word: str, files: dict[str, str], told: str, catalogue: Catalogue) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
        with_folders(catalogue, comma_separated(word))
    assert told in str(caught.value)


def test_a_question_mark_stands_for_what_a_list_of_methods_keeps_for_itself(catalogue: Catalogue) -> None:
    saved("runs/a, b (2)")
    words = comma_separated("./runs/a? b ?2?")
    assert with_folders(catalogue, words).folders[words[0]] == ("a_b_2",)
