"""What a task is trained and evaluated on: its splits, checked and encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from peftbench.config.places import folder_of, is_path
from peftbench.data import sources as data
from peftbench.errors import UserError
from peftbench.studies.training.evaluate import EvaluationSet, collator, encode_for_evaluation, judged_by

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from peftbench.tasks.base import Batch, Features, Row, Task
    from peftbench.workloads.backend import Backend

VALIDATION: Final = "validation"


@dataclass(frozen=True)
class TaskData:
    """A task with its examples, ready for the model."""

    task: Task
    """With the classes of its training data."""
    metric: str
    """The score that it is judged by."""
    train: Sequence[Features]
    validation: EvaluationSet
    tests: tuple[EvaluationSet, ...]
    """Further sets that are evaluated, never trained on."""
    collate: Callable[[Sequence[Features]], Batch]

    @classmethod
    def load(cls, backend: Backend, name: str) -> TaskData:
        """Read and encode the splits of a task.

        Raises:
            UserError: as `check` does.
        """
        task = data.fitted_task(backend.data, backend.definitions.task(name))
        tokenizer, seq_len = _tokenizer(backend), backend.seq_len(task)
        train = task.encode(_rows(backend, task, "train"), tokenizer, seq_len)
        data.check_ids(train, backend.vocabulary)

        def evaluated(what: str, source: data.Source, split: str) -> EvaluationSet:
            rows = data.load_rows(source, task, split, backend.settings.eval_rows)
            return encode_for_evaluation(task, rows, tokenizer, seq_len, name=what)

        return cls(
            task=task,
            metric=judged_by(task, backend.settings.metric),
            train=train,
            validation=evaluated(VALIDATION, backend.data, VALIDATION),
            tests=tuple(evaluated(*test) for test in test_sets(backend, task)),
            collate=collator(task, backend.vocabulary, backend.device),
        )


def check(backend: Backend, tasks: Sequence[str]) -> None:
    """Read every split that the trainings will need, so that a fault in the last shows before the first begins.

    Raises:
        UserError: random weights, synthetic data, a metric that a task lacks, or a split that is missing, empty or
            holds rows that cannot be used (labels outside the range, another label set); says where.
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
            data.load_rows(source, task, split, backend.settings.eval_rows)
            used.add(what)
    if unused := [what for what in backend.settings.test_data if what not in used]:
        raise UserError(f"--peftbench-test-data={unused[0]}: no such set for {', '.join(tasks)}")


def test_sets(backend: Backend, task: Task) -> Iterator[tuple[str, data.Source, str]]:
    """Yield name, source and split of each further set that there is for the task."""
    for what in backend.settings.test_data:
        source, split = _named(backend.data, task, what)
        if data.has_split(source, task, split):
            yield what, source, split


def _named(source: data.Source, task: Task, name: str) -> tuple[data.Source, str]:
    """Return source and split of a set that is called by a split of the data, or by a folder.

    A word that is both is the split; what the hub has is not known, and there it is the folder.
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
