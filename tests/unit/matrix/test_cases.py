from collections.abc import Mapping

import pytest

from peftbench.errors import UserError
from peftbench.matrix.cases import default_tasks, matrix, parse_method, select, select_methods
from peftbench.matrix.catalogue import Catalogue
from peftbench.records.ids import Case, MethodSpec


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load()


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("lora", {}),
        ("lora()", {}),
        (" lora ", {}),
        ("lora(r=16,target_modules=all-linear)", {"r": 16, "target_modules": "all-linear"}),
        ("lora( lora_dropout = 0.1 , use_dora=True)", {"lora_dropout": 0.1, "use_dora": True}),
    ],
)
def test_a_method_is_read_with_typed_overrides(text: str, overrides: Mapping[str, object]) -> None:
    spec = parse_method(text)
    assert spec.name == "lora"
    assert dict(spec.overrides) == overrides
    assert [type(value) for _, value in spec.overrides] == [type(value) for value in overrides.values()]


def test_the_text_of_a_spec_reads_back_as_the_same_spec() -> None:
    spec = MethodSpec("lora", (("r", 16), ("use_dora", True), ("bias", "all")))
    assert parse_method(str(spec)) == spec
    assert Case(spec, "nli", 8).id == "lora(r=16,use_dora=True,bias=all)-nli-bs8"


@pytest.mark.parametrize("text", ["", "lora(r=16", "lora(r)", "lora(=1)", "lora(r=)", "lora)r=1(", "lora(r=1,r=2)"])
def test_a_broken_method_is_one_line_with_the_text(text: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
        parse_method(text)
    assert repr(text) in str(caught.value)


def test_families_and_names_mix_and_count_once(catalogue: Catalogue) -> None:
    chosen = select_methods(["lora", "default", "lora(r=2)", "lora"], catalogue.methods)
    names = [str(spec) for spec in chosen]
    assert names[:2] == ["lora", "full"]
    assert names[-1] == "lora(r=2)"
    assert len(names) == len(set(names)) == 13


def test_an_unknown_method_names_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(UserError, match=r"unknown method 'lorra': did you mean 'lora'\?"):
        select_methods(["lorra(r=2)"], catalogue.methods)


def test_the_matrix_keeps_groups_together_and_the_order_given(catalogue: Catalogue) -> None:
    cases = matrix(catalogue, methods=["lora", "full"], tasks=["ner", "nli"], batch_sizes=[8, 1])
    assert [case.id for case in cases] == [
        "lora-ner-bs8",
        "full-ner-bs8",
        "lora-ner-bs1",
        "full-ner-bs1",
        "lora-nli-bs8",
        "full-nli-bs8",
        "lora-nli-bs1",
        "full-nli-bs1",
    ]


@pytest.mark.parametrize("model", ["auto", "tiny", "xlmr-base", "./a-folder", "owner/name"])
def test_no_task_means_the_six_that_every_model_can_do(model: str, catalogue: Catalogue) -> None:
    assert default_tasks(catalogue, model) == ("nli", "sentiment", "paraphrase", "ner", "qa", "copa")


def test_no_task_means_the_one_that_a_preset_is_meant_for(catalogue: Catalogue) -> None:
    assert default_tasks(catalogue, "tiny-llama") == ("sft",)


@pytest.mark.parametrize("family", ["basic", "paper", "peft"])
def test_a_family_is_what_its_methods_say(family: str, catalogue: Catalogue) -> None:
    expected = [name for name, method in catalogue.methods.items() if family in method.family.split()]
    assert [str(spec) for spec in select_methods([family], catalogue.methods)] == expected != []


def test_all_is_every_one_that_is_known() -> None:
    assert select("workload", ["b", "all"], {"a": 1, "b": 2}) == ("a", "b")
    assert select("workload", ["b", "b"], {"a": 1, "b": 2}) == ("b",)
    with pytest.raises(UserError, match=r"unknown workload 'c'"):
        select("workload", ["all", "c"], {"a": 1, "b": 2})
