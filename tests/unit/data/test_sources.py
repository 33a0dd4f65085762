from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peftbench.data.batching import batches, check_rows
from peftbench.data.sources import HUB, SYNTHETIC, Source, check_source, fitted_task, has_split, load_rows, parse_source
from peftbench.errors import UserError
from peftbench.tasks.base import Batch, Row, Task, Vocabulary
from peftbench.tasks.causal import TASKS as CAUSAL
from peftbench.tasks.choice import TASKS as CHOICE
from peftbench.tasks.classification import TASKS as CLASSIFICATION
from peftbench.tasks.fields import class_id
from peftbench.tasks.span import TASKS as SPAN
from peftbench.tasks.tokens import TASKS as TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TASKS = (*CLASSIFICATION, *TOKENS, *SPAN, *CHOICE)
NLI, SENTIMENT, PARAPHRASE = CLASSIFICATION
(NER,), (QA,), (COPA,), (SFT,) = TOKENS, SPAN, CHOICE, CAUSAL

EXAMPLES: dict[str, dict[str, Any]] = {
    "nli": {"premise": "the queen made tarts", "hypothesis": "a queen", "label": "neutral"},
    "sentiment": {"text": "all on a summer day", "label": 1},
    "paraphrase": {"sentence1": "some tarts", "sentence2": "tarts", "label": 0},
    "ner": {"tokens": ["queen", "of", "Hearts"], "ner_tags": ["B-PER", "O", "B-LOC"]},
    "qa": {
        "context": "the queen of hearts made some tarts",
        "question": "who made tarts?",
        "answers": {"text": ["queen"], "answer_start": [4]},
    },
    "copa": {"premise": "a day", "choice1": "some", "choice2": "all", "question": "cause", "label": 1},
}


def write(folder: Path, task: str, rows: Iterable[object], split: str = "train") -> Source:
    path = folder / task / f"{split}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source("folder", folder)


def message(call: Any) -> str:  # noqa: ANN401 - any function without arguments
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_sources_are_read_from_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_source("synthetic") == SYNTHETIC
    assert parse_source("hub") == HUB
    assert parse_source(str(tmp_path)) == Source("folder", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_source("~").folder == tmp_path
    assert message(lambda: parse_source("synthetc")) == (
        "no data in 'synthetc': give synthetic, hub, or an existing folder with "
        "<task>/<split>.{jsonl,json,csv,parquet}[.gz]"
    )


def test_a_folder_without_the_task_or_the_split_says_what_it_has(tmp_path: Path) -> None:
    source = write(tmp_path, "qa", [])
    write(tmp_path, "nli", [], split="test")
    assert message(lambda: check_source(source, NER)) == (
        f"no data for task 'ner' in {tmp_path}: expected {tmp_path}/ner/train.{{jsonl,json,csv,parquet}}[.gz]; "
        "found nli, qa; or name tasks that are there with --peftbench-tasks"
    )
    assert message(lambda: check_source(source, NLI)) == (
        f"no split 'train' of task 'nli' in {tmp_path}: "
        f"expected {tmp_path}/nli/train.{{jsonl,json,csv,parquet}}[.gz]; found test.jsonl"
    )
    for number in range(12):
        (tmp_path / f"t{number:02}").mkdir()
    assert message(lambda: check_source(source, NER)).endswith(
        "t06, t07, ...; or name tasks that are there with --peftbench-tasks"
    )
    check_source(source, NLI, "test")
    check_source(SYNTHETIC, NER)
    (tmp_path / "qa" / "train.csv").touch()
    assert "has both train.jsonl and train.csv: keep one" in message(lambda: check_source(source, QA))


def test_rows_are_limited_and_of_any_split(tmp_path: Path) -> None:
    rows = [EXAMPLES["nli"] | {"id": number} for number in range(4)]
    source = write(tmp_path, "nli", rows, split="validation")
    assert load_rows(source, NLI, "validation") == rows
    assert load_rows(source, NLI, "validation", limit=2) == rows[:2]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path: Path, task: Task) -> None:
    good = EXAMPLES[task.name]
    missing = task.fields[1]
    bad = {name: value for name, value in good.items() if name != missing}
    source = write(tmp_path, task.name, [good, bad])
    path = tmp_path / task.name / "train.jsonl"
    assert message(lambda: load_rows(source, task)).startswith(f"{path}, line 2: lacks the field {missing!r}; each row")
    assert load_rows(source, task, limit=1) == [good]
    source = write(tmp_path, task.name, [good, good, 7])
    assert message(lambda: load_rows(source, task)) == f"{path}, line 3: must be an object, not int"
    source = write(tmp_path, task.name, [])
    assert message(lambda: load_rows(source, task)) == f"{path} has no rows"


def test_csv_labels_are_numbers_or_names(tmp_path: Path) -> None:
    (tmp_path / "sentiment").mkdir()
    path = tmp_path / "sentiment" / "train.csv"
    path.write_text("text,label\na,1\nb,negative\nc\n")
    source = Source("folder", tmp_path)
    assert len(load_rows(source, SENTIMENT, limit=2)) == 2
    assert message(lambda: load_rows(source, SENTIMENT)).startswith(f"{path}, line 4: lacks the field 'label'")


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def garbage(draw: st.DrawFn, task: Task) -> bytes:
    """Lines that are anything at all, or nearly right: a good row with one field changed, or cut short."""
    field = st.sampled_from([*task.fields, "answers"])
    nearly = st.builds(lambda name, value: json.dumps(EXAMPLES[task.name] | {name: value}), field, json_like)
    inner = st.builds(
        lambda key, value: json.dumps(EXAMPLES["qa"] | {"answers": EXAMPLES["qa"]["answers"] | {key: value}}),
        st.sampled_from(["text", "answer_start"]),
        json_like,
    )
    cut = st.builds(lambda text, size: text[:size], nearly, st.integers(0, 80))
    anything = json_like.map(json.dumps)
    line = st.one_of(nearly, inner, cut, anything).map(str.encode) | st.binary(max_size=20)
    return b"\n".join(draw(st.lists(line, min_size=1, max_size=3)))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_any_file_gives_rows_that_can_be_encoded_or_one_line_of_error(
    task: Task, tmp_path: Path, wordpiece: PreTrainedTokenizerFast, bert_vocabulary: Vocabulary
) -> None:
    source = write(tmp_path, task.name, [])
    path = tmp_path / task.name / "train.jsonl"

    @settings(max_examples=60, deadline=None)
    @example(content=json.dumps(EXAMPLES[task.name]).encode())
    @given(content=garbage(task))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        fitted, rows, error = task, list[Row](), ""
        try:
            fitted = fitted_task(source, task)
            rows = load_rows(source, fitted)
        except UserError as caught:
            error = str(caught)
        if rows:
            fitted.collate(fitted.encode(rows, wordpiece, 16), bert_vocabulary)
        else:
            assert error.startswith(str(path))
            assert "\n" not in error

    check()


def test_the_tags_of_the_training_data_are_the_classes(tmp_path: Path) -> None:
    source = write(tmp_path, "ner", [{"tokens": ["x", "y"], "ner_tags": ["B-work", "O"]}])
    write(tmp_path, "ner", [{"tokens": ["x"], "ner_tags": ["I-work"]}], split="test")
    task = fitted_task(source, NER)
    assert task.labels == ("O", "B-work", "I-work")
    assert len(load_rows(source, task, "test")) == 1
    assert "'B-work', not one of O, B-PER" in message(lambda: load_rows(source, NER))
    assert fitted_task(SYNTHETIC, NER) is NER
    assert fitted_task(write(tmp_path, "nli", []), NLI) is NLI


def with_names(folder: Path, task: str, rows: list[dict[str, Any]], **names: list[str]) -> Source:
    """Write training rows as `datasets` does, whose fields of these names are ids of classes."""
    import datasets

    data = datasets.Dataset.from_list(rows)
    for field, classes in names.items():
        label = datasets.ClassLabel(names=classes)
        feature = datasets.List(label) if isinstance(rows[0][field], list) else label
        data = data.cast_column(field, feature)
    (folder / task).mkdir(exist_ok=True)
    data.to_parquet(str(folder / task / "train.parquet"))
    return Source("folder", folder)


def test_the_classes_that_the_training_file_names_are_the_tasks(
    tmp_path: Path, wordpiece: PreTrainedTokenizerFast
) -> None:
    names = ["O", "B-PER", "B-LOC", "I-PER", "I-LOC"]
    row = {"tokens": ["the", "queen", "of", "hearts", "made"], "ner_tags": [1, 3, 0, 2, 4]}
    source = with_names(tmp_path, "ner", [row], ner_tags=names)
    task = fitted_task(source, NER)
    assert task.labels == tuple(names)
    (found,) = load_rows(source, task)
    assert found["ner_tags"] == ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"]
    (features,) = task.encode([found], wordpiece, 24)
    assert [label for label in features["labels"] if label >= 0] == [1, 3, 0, 2, 4]
    write(tmp_path, "ner", [{"tokens": ["a", "b"], "ner_tags": [3, "B-LOC"]}], split="test")
    (features,) = task.encode(load_rows(source, task, "test"), wordpiece, 24)
    assert [label for label in features["labels"] if label >= 0] == [3, 2]


def test_more_classes_than_the_task_has_of_its_own(tmp_path: Path) -> None:
    conll = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    source = with_names(tmp_path, "ner", [{"tokens": ["a", "b"], "ner_tags": [7, 8]}], ner_tags=conll)
    task = fitted_task(source, NER)
    assert task.labels == tuple(conll)
    assert load_rows(source, task)[0]["ner_tags"] == ["B-MISC", "I-MISC"]


def test_labels_in_another_order_mean_what_the_file_says(tmp_path: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    rows = [{"premise": "a", "hypothesis": "b", "label": number} for number in range(3)]
    source = with_names(tmp_path, "nli", rows, label=["contradiction", "entailment", "neutral"])
    task = fitted_task(source, NLI)
    found = load_rows(source, task)
    assert [row["label"] for row in found] == ["contradiction", "entailment", "neutral"]
    ids = [feature["labels"] for feature in task.encode(found, wordpiece, 16)]
    assert [task.labels[number] for number in ids] == ["contradiction", "entailment", "neutral"]


def test_numbers_are_no_names_of_classes(tmp_path: Path) -> None:
    rows = [{"sentence1": "a", "sentence2": "b", "label": number} for number in (1, 0)]
    source = with_names(tmp_path, "paraphrase", rows, label=["0", "1"])
    task = fitted_task(source, PARAPHRASE)
    assert task is PARAPHRASE
    assert [class_id(row["label"], task.labels) for row in load_rows(source, task)] == [1, 0]
    source = with_names(tmp_path, "copa", [EXAMPLES["copa"]], label=["0", "1"])
    assert load_rows(source, fitted_task(source, COPA))[0]["label"] == "1"


def test_a_class_that_the_file_names_and_the_task_cannot_have(tmp_path: Path) -> None:
    source = with_names(tmp_path, "ner", [{"tokens": ["a"], "ner_tags": [0]}], ner_tags=["O", "PER"])
    path = tmp_path / "ner" / "train.parquet"
    assert message(lambda: fitted_task(source, NER)).startswith(f"{path}, ner_tags: the class 'PER' is no tag")
    rows = [{"premise": "a", "hypothesis": "b", "label": number} for number in (0, -1)]
    source = with_names(tmp_path, "nli", rows, label=["entailment", "neutral", "contradiction"])
    assert "row 2: label is -1, not one of entailment" in message(lambda: load_rows(source, fitted_task(source, NLI)))


def test_the_names_of_the_hubs_classes_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["positive", "negative", "mixed"])}
    )
    data = datasets.Dataset.from_list([{"sentence": "some tarts", "label": 0}], features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: data)
    task = fitted_task(HUB, SENTIMENT)
    assert task.labels == ("positive", "negative", "mixed")
    assert load_rows(HUB, task) == [{"text": "some tarts", "label": "positive"}]


SQUAD: dict[str, Any] = {
    "title": "Alice",
    "paragraphs": [
        {
            "context": EXAMPLES["qa"]["context"],
            "qas": [
                {"id": "1", "question": "who?", "answers": [{"text": "queen", "answer_start": 4}]},
                {"id": "2", "question": "why?", "answers": [], "is_impossible": True, "plausible_answers": [{}]},
            ],
        },
        {
            "context": "a day",
            "qas": [{"id": "3", "question": "when?", "answers": [{"text": "day", "answer_start": 2}]}],
        },
    ],
}


@pytest.mark.parametrize("form", ["json, several lines", "json, one line", "jsonl, an article a line"])
def test_squads_own_files(tmp_path: Path, form: str) -> None:
    (tmp_path / "qa").mkdir()
    whole = {"version": "v2.0", "data": [SQUAD, {**SQUAD, "paragraphs": []}]}
    path = tmp_path / "qa" / f"train.{form.partition(',')[0]}"
    path.write_text(
        json.dumps(SQUAD) + "\n"
        if form.startswith("jsonl")
        else json.dumps(whole, indent=2 if form.endswith("several lines") else None)
    )
    rows = load_rows(Source("folder", tmp_path), QA)
    assert [(row["question"], row["context"], row["answers"]) for row in rows] == [
        ("who?", EXAMPLES["qa"]["context"], {"text": ["queen"], "answer_start": [4]}),
        ("why?", EXAMPLES["qa"]["context"], {"text": [], "answer_start": []}),
        ("when?", "a day", {"text": ["day"], "answer_start": [2]}),
    ]
    assert len(load_rows(Source("folder", tmp_path), QA, limit=2)) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"paragraphs": [7]}, "line 1, paragraph 1: must be an object, not int"),
        ({"paragraphs": [{"context": "a", "qas": [7]}]}, "line 1, paragraph 1, question 1: must be an object, not int"),
        (
            {"paragraphs": [{"qas": [{"question": "a", "answers": []}]}]},
            "paragraph 1, question 1: lacks the field 'con",
        ),
        ({"paragraphs": [{"context": "a", "qas": [{"question": "a", "answers": [7]}]}]}, "answers must hold text and"),
        (
            {
                "paragraphs": [
                    {"context": "a", "qas": [{"question": "a", "answers": [{"text": "b", "answer_start": 0}]}]}
                ]
            },
            "line 1, paragraph 1, question 1: answer 'b' does not stand at character 0 of the context",
        ),
        ({"paragraphs": {}}, "line 1: lacks the field 'context'"),
    ],
)
def test_a_wrong_part_of_squads_files_is_named_by_its_place(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    source = write(tmp_path, "qa", [SQUAD | change])
    assert said in message(lambda: load_rows(source, QA))


def made(source: Source, task: Task, tokenizer: PreTrainedTokenizerFast | None, **changes: int) -> tuple[Batch, ...]:
    arguments: dict[str, Any] = {"batch_size": 4, "seq_len": 24, "count": 3, "seed": 0} | changes
    vocabulary = Vocabulary(size=512, pad=0, start=2, separator=3, segments=2)
    return batches(source, task, tokenizer=tokenizer, vocabulary=vocabulary, **arguments)


def same(left: tuple[Batch, ...], right: tuple[Batch, ...]) -> bool:
    return len(left) == len(right) and all(
        one[name].equal(other[name]) for one, other in zip(left, right, strict=True) for name in one
    )


@pytest.mark.parametrize("kind", ["synthetic", "folder"])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_batches_have_one_shape_and_differ(
    tmp_path: Path, task: Task, kind: str, wordpiece: PreTrainedTokenizerFast
) -> None:
    source, tokenizer = SYNTHETIC, None
    if kind == "folder":
        rows = []
        for number in range(20):
            row = dict(EXAMPLES[task.name])
            if isinstance(row.get(task.fields[0]), str):
                row[task.fields[0]] += f" {number}"
            else:
                row = {name: [*row[name], str(number) if name == "tokens" else "O"] for name in row}
            rows.append(row)
        source, tokenizer = write(tmp_path, task.name, rows), wordpiece
    found = made(source, task, tokenizer)
    shapes = [{name: tuple(tensor.shape) for name, tensor in batch.items()} for batch in found]
    assert shapes == [shapes[0]] * 3
    assert shapes[0]["input_ids"] == ((4, 2, 24) if task.name == "copa" else (4, 24))
    assert not same(found[:1], found[1:2])
    assert same(found, made(source, task, tokenizer))
    assert not same(found, made(source, task, tokenizer, seed=1))


def test_few_rows_come_round_again(tmp_path: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    source = write(tmp_path, "sentiment", [{"text": text, "label": 0} for text in ("a", "b", "c")])
    found = made(source, SENTIMENT, wordpiece, batch_size=2, count=4)
    firsts = [int(row[1]) for batch in found for row in batch["input_ids"]]
    assert len(firsts) == 8
    assert sorted(firsts.count(i) for i in set(firsts)) == [2, 3, 3]


def test_a_long_context_fills_batches_on_its_own(tmp_path: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    context = " ".join(f"queen {number}" for number in range(60))
    row = {"context": context, "question": "who?", "answers": {"text": ["queen"], "answer_start": [0]}}
    (batch,) = made(write(tmp_path, "qa", [row]), QA, wordpiece, count=1)
    assert len({tuple(ids.tolist()) for ids in batch["input_ids"]}) > 1


def test_real_data_needs_the_models_own_tokenizer(tmp_path: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    source = write(tmp_path, "nli", [EXAMPLES["nli"]])
    assert message(lambda: made(source, NLI, None)).startswith("task 'nli': real data needs the model's tokenizer")
    small = Vocabulary(size=50, pad=0, start=2, separator=3, segments=2)
    assert "the tokenizer is not the model's: it gives token id" in message(
        lambda: batches(source, NLI, tokenizer=wordpiece, vocabulary=small, batch_size=1, seq_len=16, count=1, seed=0)
    )


def test_the_hubs_columns_get_our_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load_dataset(*arguments: object, **options: object) -> datasets.Dataset:
        asked.append((arguments, options))
        return datasets.Dataset.from_list([{"sentence": "some tarts", "label": 1}, {"sentence": "", "label": -1}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_rows(HUB, SENTIMENT, limit=1) == [{"text": "some tarts", "label": 1}]
    assert asked == [(("stanfordnlp/sst2", None), {"split": "train"})]
    assert message(lambda: load_rows(HUB, SENTIMENT)).startswith("stanfordnlp/sst2 (train), row 2: label is -1")


def test_copa_of_the_hub_has_a_split_to_evaluate_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    splits = {  # as the data sets' pages have them
        ("aps/super_glue", "copa"): ("train", "validation", "test"),
        ("pkavumba/balanced-copa", None): ("train", "test"),
    }

    def load_dataset(path: str, name: str | None, *, split: str) -> datasets.Dataset:
        if split not in splits[path, name]:
            raise ValueError(f"Unknown split {split!r}")
        return datasets.Dataset.from_list([{**EXAMPLES["copa"], "idx": 0}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_rows(HUB, COPA, "train") == load_rows(HUB, COPA, "validation") == [{**EXAMPLES["copa"], "idx": 0}]


def test_a_task_without_data_on_the_hub_is_one_line() -> None:
    own = replace(NLI, name="mine", hub=None)
    assert not has_split(HUB, own, "validation")
    for look in (lambda: check_source(HUB, own), lambda: load_rows(HUB, own)):
        with pytest.raises(UserError, match=r"^task 'mine' has no data on the hub: give a folder with mine/<split>"):
            look()


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'facebook/xnli' on the Hub\n(offline)")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert message(lambda: load_rows(HUB, NLI)) == (
        "task 'nli': data set 'facebook/xnli' (train) cannot be loaded from the hub: "
        "Couldn't reach 'facebook/xnli' on the Hub; give a folder with nli/<split>.{jsonl,json,csv,parquet}[.gz]"
    )


def test_synthetic_examples_have_no_rows() -> None:
    with pytest.raises(ValueError, match="without rows"):
        load_rows(SYNTHETIC, NLI)


def test_a_row_that_cannot_be_tokenised_is_named_by_file_and_line(
    tmp_path: Path, wordpiece: PreTrainedTokenizerFast, bert_vocabulary: Vocabulary
) -> None:
    rows = [{"prompt": "a", "completion": "b"}] * 5
    source = write(tmp_path, "sft", [*rows, {"prompt": "queen " * 9, "completion": "b"}])
    where = f"{tmp_path / 'sft' / 'train.jsonl'}, line 6: its prompt has 10 tokens, and nothing of its completion"
    enough = message(lambda: check_rows(source, SFT, wordpiece, 10, 64))
    assert enough == f"{where} is left in 10; give --peftbench-seq-len=11 or more"
    too_few = message(lambda: check_rows(source, SFT, wordpiece, 10, 10))
    assert too_few == f"{where} is left in 10; the model has positions for 10: shorten the prompt, or leave the row out"

    def drawn() -> object:
        return batches(
            source, SFT, tokenizer=wordpiece, vocabulary=bert_vocabulary, batch_size=6, seq_len=10, count=1, seed=3
        )

    assert message(drawn) == enough


def test_packed_batches_are_full_and_the_same_for_the_same_seed(
    tmp_path: Path, wordpiece: PreTrainedTokenizerFast, bert_vocabulary: Vocabulary
) -> None:
    source = write(tmp_path, "sft", [{"prompt": "the queen", "completion": " tarts" * n} for n in range(1, 9)])

    def drawn(source: Source) -> tuple[Batch, ...]:
        tokenizer = None if source == SYNTHETIC else wordpiece
        return batches(
            source,
            SFT,
            tokenizer=tokenizer,
            vocabulary=bert_vocabulary,
            batch_size=2,
            seq_len=32,
            count=4,
            seed=3,
            packing=True,
        )

    for one in (source, SYNTHETIC):
        first = drawn(one)
        assert [batch["input_ids"].shape for batch in first] == [(2, 32)] * 4
        assert sum(map(SFT.tokens, first)) > 0.8 * 4 * 2 * 32
        for batch, again in zip(first, drawn(one), strict=True):
            assert all(tensor.equal(again[name]) for name, tensor in batch.items())
