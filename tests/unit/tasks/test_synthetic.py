"""Examples out of a seed, of every task, and that every head takes them."""

import math
import random

import pytest

from peftbench.models.building import build_model, load_config
from peftbench.models.presets import PRESETS, resolve
from peftbench.models.vocabulary import vocabulary
from peftbench.tasks.base import Features, Task, Vocabulary
from peftbench.tasks.causal import TASKS as CAUSAL
from peftbench.tasks.choice import TASKS as CHOICE
from peftbench.tasks.classification import TASKS as CLASSIFICATION
from peftbench.tasks.span import TASKS as SPAN
from peftbench.tasks.tokens import TASKS as TOKENS

ENCODED = (*CLASSIFICATION, *TOKENS, *SPAN, *CHOICE)
TASKS = (*ENCODED, *CAUSAL)
BERT = Vocabulary(size=30522, pad=0, start=101, separator=102, segments=2)
XLMR = Vocabulary(size=512, pad=1, start=0, separator=2, segments=1)
AT_THE_END = Vocabulary(size=100, pad=97, start=98, separator=99, segments=1)

every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
every_vocabulary = pytest.mark.parametrize("words", [BERT, XLMR, AT_THE_END], ids=["bert", "xlmr", "at-the-end"])


def sequences(feature: Features) -> list[list[int]]:
    ids = feature["input_ids"]
    return ids if isinstance(ids[0], list) else [ids]


@every_task
def test_the_seed_alone_decides(task: Task) -> None:
    random.seed(1)
    first = task.synthetic(12, BERT, 32, seed=3)
    random.seed(2)
    assert task.synthetic(12, BERT, 32, seed=3) == first
    assert task.synthetic(5, BERT, 32, seed=3) == first[:5]
    assert task.synthetic(12, BERT, 32, seed=4) != first


def test_examples_are_the_same_on_every_machine() -> None:
    (feature,) = CLASSIFICATION[0].synthetic(1, BERT, 8, seed=0)
    assert feature["input_ids"] == [101, 9485, 21529, 17946, 102, 26493, 29618, 102]


@every_task
@every_vocabulary
@pytest.mark.parametrize("seq_len", [8, 9, 32, 128])
def test_lengths_vary_up_to_the_sequence_length(task: Task, words: Vocabulary, seq_len: int) -> None:
    features = task.synthetic(40, words, seq_len, seed=0)
    assert len(sequences(features[0])[0]) == seq_len
    lengths = {len(ids) for feature in features for ids in sequences(feature)}
    assert max(lengths) == seq_len
    assert len(lengths) > 1


@every_task
@every_vocabulary
def test_tokens_are_ordinary_ones_between_special_ones(task: Task, words: Vocabulary) -> None:
    special = {words.pad, words.start, words.separator}
    for feature in task.synthetic(40, words, 24, seed=0):
        for ids in sequences(feature):
            assert ids[0] == words.start
            assert ids[-1] == words.separator
            assert words.pad not in ids
            ordinary = [i for i in ids if i not in special]
            assert len(ids) - len(ordinary) in (2, 3)
            assert all(0 <= i < words.size for i in ordinary)


@every_task
def test_token_types_change_after_the_first_separator(task: Task) -> None:
    for feature in task.synthetic(20, BERT, 24, seed=0):
        types = feature["token_type_ids"] if isinstance(feature["input_ids"][0], list) else [feature["token_type_ids"]]
        for ids, kinds in zip(sequences(feature), types, strict=True):
            first = ids.index(BERT.separator) + 1
            assert kinds == [0] * first + [1] * (len(ids) - first)


@pytest.mark.parametrize("task", [*CLASSIFICATION, *CHOICE], ids=lambda task: task.name)
def test_labels_go_round_all_classes(task: Task) -> None:
    classes = len(task.labels) or 2
    labels = [feature["labels"] for feature in task.synthetic(4 * classes, BERT, 16, seed=0)]
    assert all(labels.count(number) == 4 for number in range(classes))


def test_tags_go_round_all_classes_on_the_first_tokens_of_words() -> None:
    (task,) = TOKENS
    features = task.synthetic(30, BERT, 32, seed=0)
    labels = [label for feature in features for label in feature["labels"]]
    assert set(labels) == {-100, *range(len(task.labels))}
    for feature in features:
        assert feature["labels"][0] == feature["labels"][-1] == -100
        assert feature["labels"][1] != -100
        assert len(feature["labels"]) == len(feature["input_ids"])


@pytest.mark.parametrize("seq_len", [8, 32])
def test_spans_lie_inside_the_context(seq_len: int) -> None:
    (task,) = SPAN
    starts = set()
    for feature in task.synthetic(60, BERT, seq_len, seed=0):
        context = feature["input_ids"].index(BERT.separator) + 1
        assert context <= feature["start_positions"] <= feature["end_positions"] < len(feature["input_ids"]) - 1
        starts.add(feature["start_positions"])
    assert len(starts) > 2


@pytest.mark.parametrize(
    ("preset", "task"),
    [*((preset, task) for preset in ("tiny", "tiny-xlmr") for task in ENCODED), ("tiny-llama", *CAUSAL)],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_head_learns_from_a_batch(preset: str, task: Task) -> None:
    import torch

    source = resolve(preset, {known.name: known for known in PRESETS})
    words = vocabulary(load_config(source))
    batch = task.collate(task.synthetic(4, words, 128, seed=0), words, pad_to=128)
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    assert batch["input_ids"].shape == ((4, 2, 128) if task.name == "copa" else (4, 128))
    model = build_model(source, task, seed=0)
    loss = model(**batch).loss
    loss.backward()
    # An untrained head knows nothing: its loss is that of an even guess.
    guesses = {"qa": 128, "copa": 2, "sft": words.size}.get(task.name, len(task.labels))
    assert loss.item() == pytest.approx(math.log(guesses), abs=0.35)
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        # A bias that every choice or position shares cancels in the softmax: its gradient is rounding, or zero.
        assert weight.grad.any() or name.endswith("bias"), name
