"""Rows -> features -> batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, cycle, islice
from random import Random
from typing import TYPE_CHECKING, Final

from peftbench.data.sources import Source, check_source, fitted_task, load_rows, place_of
from peftbench.errors import UserError
from peftbench.tasks.base import Batch, Features, Row, Task, Vocabulary
from peftbench.tasks.encoding import RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

POOL: Final = 10_000
"""Rows from which a benchmark's batches are drawn: enough to be typical, read in a moment."""

TRIED: Final = 200
"""Rows that are tokenised before any case runs: enough to find what is wrong with all of them, done in a moment."""


def check_rows(
    source: Source,
    task: Task,
    tokenizer: PreTrainedTokenizerFast | None = None,
    seq_len: int = 0,
    positions: int | None = None,
) -> None:
    """Read the rows of a folder from which batches will be drawn, so that a broken one is known beforehand.

    With a tokenizer the first of them are tokenised as well.

    Args:
        source: where the rows come from; only a folder is read.
        task: as the catalogue has it; it is fitted to the data here.
        tokenizer: the model's own.
        seq_len: most tokens of an example.
        positions: the longest sequence that the model takes, where it says one.

    Raises:
        UserError: no file for the task, or a row that cannot be used; says where.
    """
    if source.folder:
        check_source(source, task)
        fitted = fitted_task(source, task)
        rows = load_rows(source, fitted, limit=POOL)
        if tokenizer is not None:
            encode(source, fitted, rows[:TRIED], tokenizer, seq_len, positions=positions)


def batches(
    source: Source,
    task: Task,
    *,
    tokenizer: PreTrainedTokenizerFast | None,
    vocabulary: Vocabulary,
    batch_size: int,
    seq_len: int,
    count: int,
    seed: int,
    packing: bool = False,
    positions: int | None = None,
) -> tuple[Batch, ...]:
    """Return `count` different batches, the same for the same arguments, all padded to exactly `seq_len` tokens.

    Rows are drawn at random from the first 10,000 of the training split; where they are too few, they come round again.

    Args:
        source: where examples come from.
        task: fitted to the source.
        tokenizer: the model's own; None for synthetic examples.
        vocabulary: the model's.
        batch_size: examples in a batch; for multiple choice each is several sequences.
        seq_len: tokens in each sequence, padding included.
        count: number of batches.
        seed: of the examples, or of their order.
        packing: whether examples share a sequence where there is room.
        positions: the longest sequence that the model takes, where it says one.

    Raises:
        UserError: the data cannot be used, or the tokenizer is not the model's.
    """
    needed = batch_size * count
    if source.kind == "synthetic":

        def some(number: int) -> list[Features]:
            return task.synthetic(number, vocabulary, seq_len, seed)

    elif tokenizer is None:
        raise UserError(
            f"task {task.name!r}: real data needs the model's tokenizer; use synthetic data, or a model folder"
        )
    else:
        pool = load_rows(source, task, limit=max(POOL, needed))

        def some(number: int) -> list[Features]:
            random = Random(seed)
            numbers = random.sample(range(len(pool)), min(number, len(pool)))
            rows = [pool[row] for row in numbers]
            encoded = encode(source, task, rows, tokenizer, seq_len, numbers=numbers, positions=positions)
            random.shuffle(encoded)  # a row can become several examples, which would stand together
            check_ids(encoded, vocabulary)
            return list(islice(cycle(encoded), number))

    features = _full(some, task, needed, seq_len) if packing else some(needed)
    starts = range(0, needed, batch_size)
    return tuple(task.collate(features[at : at + batch_size], vocabulary, pad_to=seq_len) for at in starts)


def encode(
    source: Source,
    task: Task,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerFast,
    seq_len: int,
    *,
    split: str = "train",
    numbers: Sequence[int] | None = None,
    positions: int | None = None,
) -> list[Features]:
    """Tokenise rows of a split.

    Args:
        source: where the rows come from.
        task: fitted to the source.
        rows: those that `load_rows` returned, or some of them.
        tokenizer: the model's own.
        seq_len: most tokens of an example.
        split: of the rows.
        numbers: which of the split's rows they are; None: its first ones.
        positions: the longest sequence that the model takes, where it says one.

    Raises:
        UserError: a row cannot be tokenised; says which, and what to do.
    """
    with placed(source, task, split, numbers=numbers, positions=positions):
        return task.encode(rows, tokenizer, seq_len)


@contextmanager
def placed(
    source: Source, task: Task, split: str, *, numbers: Sequence[int] | None = None, positions: int | None = None
) -> Iterator[None]:
    """Within the context, in which rows are tokenised, the error of one says where the row stands (see `encode`).

    Raises:
        UserError: a row cannot be tokenised; says which, and what to do.
    """
    try:
        yield
    except RowError as error:
        number = error.number if numbers is None else numbers[error.number]
        advice = ""
        if error.needs is not None:
            fits = positions is None or error.needs <= positions
            advice = (
                f"; give --peftbench-seq-len={error.needs} or more"
                if fits
                else (f"; the model has positions for {positions}: shorten the prompt, or leave the row out")
            )
        raise UserError(f"{place_of(source, task, split, number)}: {error.problem}{advice}") from error


def check_ids(features: Iterable[Features], vocabulary: Vocabulary) -> None:
    """Raise UserError where a token id is none of the model's."""
    lists = chain.from_iterable(feature["input_ids"] for feature in features)
    largest = max(max(entry) if isinstance(entry, list) else entry for entry in lists)
    if largest >= vocabulary.size:
        raise UserError(
            f"the tokenizer is not the model's: it gives token id {largest}, the model knows {vocabulary.size} tokens"
        )


def _full(some: Callable[[int], list[Features]], task: Task, needed: int, seq_len: int) -> list[Features]:
    """Return `needed` packs, given a function that makes examples. So many are taken that the packs are full."""
    examples = needed
    while len(packs := task.packed(some(examples), seq_len)) < needed + 1:  # the emptiest pack may be left out
        examples *= 2
    return sorted(packs, key=lambda pack: -len(pack["input_ids"]))[:needed]
