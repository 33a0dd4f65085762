"""The examples of each training step: pure functions of lengths and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Final

CHUNK: Final = 50
"""Number of batches within which examples are sorted by length."""


@dataclass(frozen=True, slots=True)
class Draw:
    """The examples of one step."""

    task: str
    rows: tuple[int, ...]


def epoch(
    lengths: Mapping[str, Sequence[int]], batch_size: int, seed: int, number: int, *, group_by_length: bool = False
) -> list[Draw]:
    """Return the steps of an epoch. It holds every example once. A batch has one task; the tasks' batches are mixed.

    The share of a task in the steps is thus proportional to its number of examples.

    Args:
        lengths: Tokens of each example, by task.
        batch_size: Examples of a step. The last batch of a task may be smaller.
        seed: Seed of the training.
        number: Index of the epoch, from 0.
        group_by_length: Whether examples of similar length share a batch, so that there is less padding.
    """
    draws = []
    for task, tokens in lengths.items():
        random = Random(f"{seed}/{number}/{task}")  # a text seeds alike on every machine
        rows = list(range(len(tokens)))
        random.shuffle(rows)
        if group_by_length:
            rows = _grouped(rows, tokens, CHUNK * batch_size)
        batches = [Draw(task, tuple(rows[at : at + batch_size])) for at in range(0, len(rows), batch_size)]
        if group_by_length:
            random.shuffle(batches)
        draws += batches
    if len(lengths) > 1:
        Random(f"{seed}/{number}").shuffle(draws)
    return draws


def steps(
    lengths: Mapping[str, Sequence[int]], batch_size: int, seed: int, *, group_by_length: bool = False
) -> Iterator[Draw]:
    """Yield the steps of epoch after epoch, without end."""
    for number in count():
        yield from epoch(lengths, batch_size, seed, number, group_by_length=group_by_length)


def steps_per_epoch(sizes: Mapping[str, int], batch_size: int) -> int:
    """Return the number of steps of an epoch, given the number of examples of each task."""
    return sum(-(-size // batch_size) for size in sizes.values())


def replayed(size: int, share: float, seed: int) -> tuple[int, ...]:
    """Return the rows of an old task that are replayed when a new one is added: `share` of them, drawn once."""
    return tuple(sorted(Random(f"replay/{seed}").sample(range(size), round(share * size))))


def _grouped(rows: Sequence[int], tokens: Sequence[int], chunk: int) -> list[int]:
    """Sort each chunk of the shuffled rows by length."""
    return [
        row for at in range(0, len(rows), chunk) for row in sorted(rows[at : at + chunk], key=lambda row: tokens[row])
    ]
