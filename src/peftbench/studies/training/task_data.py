"""The data of a task for training and evaluation: its splits, checked and encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from peftbench.config.places import folder_of, is_path
from peftbench.data import batching
from peftbench.data import sources as data
from peftbench.errors import UserError
from peftbench.measure.trial import BATCHES
from peftbench.studies.training.evaluate import (
    EXACT_MATCH,
    AnswerPlan,
    EvaluationSet,
    collator,
    encode_for_evaluation,
    judged_by,
    length,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from peftbench.tasks.base import Batch, Features, Row, Task
    from peftbench.workloads.backend import Backend

VALIDATION: Final = "validation"


@dataclass(frozen=True)
class TaskData:
    """A task with its encoded examples."""

    task: Task
    """The task with the classes of its training data."""
    metric: str
    """Name of the score that is the task's quality."""
    train: Sequence[Features]
    validation: EvaluationSet
    tests: tuple[EvaluationSet, ...]
    """Further sets. They are evaluated at the end and never trained on."""
    collate: Callable[[Sequence[Features]], Batch]

    @property
    def longest(self) -> int:
        """The largest number of tokens of an example, in training or evaluation."""
        sets = (self.train, self.validation.features, *(test.features for test in self.tests))
        return max(length(features) for examples in sets for features in examples)

    def first_batches(self, batch_size: int) -> tuple[Batch, ...]:
        """Return the first training examples as up to `BATCHES` batches, from which some methods start."""
        starts = range(0, min(len(self.train), BATCHES * batch_size), batch_size)
        return tuple(self.collate(self.train[start : start + batch_size]) for start in starts)

    @classmethod
    def load(cls, backend: Backend, name: str) -> TaskData:
        """Read and encode the splits of a task.

        Raises:
            UserError: the data cannot be used, as in `check`.
        """
        task = data.fitted_task(backend.data, backend.definitions.task(name))
        tokenizer, seq_len = _tokenizer(backend), backend.seq_len(task)
        metric = judged_by(task, backend.settings.metric)
        settings = backend.settings
        plan = AnswerPlan(settings.answers, settings.answer_tokens, backend.positions)
        answers = plan if metric == EXACT_MATCH else None
        rows = _rows(backend, task, "train")
        train = batching.encode(backend.data, task, rows, tokenizer, seq_len, positions=backend.positions)
        batching.check_ids(train, backend.vocabulary)
        if backend.settings.packing:
            train = task.packed(train, seq_len)

        def evaluated(what: str, source: data.Source, split: str) -> EvaluationSet:
            rows = data.load_rows(source, task, split, backend.settings.eval_rows)
            with batching.placed(source, task, split, positions=backend.positions):
                return encode_for_evaluation(task, rows, tokenizer, seq_len, name=what, answers=answers)

        return cls(
            task=task,
            metric=metric,
            train=train,
            validation=evaluated(VALIDATION, backend.data, VALIDATION),
            tests=tuple(evaluated(*test) for test in test_sets(backend, task)),
            collate=collator(
                task, backend.vocabulary, backend.device, pad_to=seq_len if backend.settings.pad_to_length else None
            ),
        )


def check(backend: Backend, tasks: Sequence[str]) -> None:
    """Read every split that the trainings need, so that a fault in the last one shows before the first training.

    Raises:
        UserError: the weights are random, the data is synthetic, a task has no such metric, or a split is missing, is
            empty or holds rows that cannot be used (labels outside the range, another label set), or the validation set
            is of one class; says where.
    """
    if backend.model.random_weights:
        raise UserError(
            f"a training to quality needs trained weights, and those of preset {backend.model.name!r} are random: "
            "give --peftbench-model=<folder or hub id>"
        )
    if backend.data == data.SYNTHETIC:
        raise UserError("a training to quality needs real data, synthetic labels are random: give --peftbench-data")
    used: set[str] = set()
    for name in tasks:
        task = data.fitted_task(backend.data, backend.definitions.task(name))
        judged_by(task, backend.settings.metric)
        _rows(backend, task, "train")
        for what, source, split in [(VALIDATION, backend.data, VALIDATION), *test_sets(backend, task)]:
            rows = data.load_rows(source, task, split, backend.settings.eval_rows)
            if what == VALIDATION and (reason := task.undecided(rows)):
                raise UserError(f"{data.origin(source, task, split)}: {reason}; give rows of at least two classes")
            used.add(what)
    if unused := [what for what in backend.settings.test_data if what not in used]:
        raise UserError(f"--peftbench-test-data={unused[0]}: no such set for {', '.join(tasks)}")


def test_sets(backend: Backend, task: Task) -> Iterator[tuple[str, data.Source, str]]:
    """Yield name, source and split of each test set that the task has."""
    for what in backend.settings.test_data:
        source, split = _named(backend.data, task, what)
        if data.has_split(source, task, split):
            yield what, source, split


def _named(source: data.Source, task: Task, name: str) -> tuple[data.Source, str]:
    """Return source and split of a test set, whose name is a split of the data or a folder.

    A name that is both means the split if the data is a folder. The splits of the hub are not known, so there it means
    the folder.
    """
    folder = folder_of(name)
    if folder is None or (source.folder and not is_path(name) and data.has_split(source, task, name)):
        return source, name
    return data.Source("folder", folder), "test"


def _rows(backend: Backend, task: Task, split: str) -> list[Row]:
    return data.load_rows(backend.data, task, split, backend.settings.train_rows)


def _tokenizer(backend: Backend) -> PreTrainedTokenizerFast:
    if backend.tokenizer is None:
        raise ValueError("check() refuses synthetic data, and all other data comes with a tokenizer")
    return backend.tokenizer
