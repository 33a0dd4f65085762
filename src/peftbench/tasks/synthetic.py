"""Synthetic examples from a seed, with the shapes of real ones. They need no files and no tokenizer."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from peftbench.tasks.base import Features, Vocabulary


def source(task: str, seed: int) -> Random:
    """Return a task's random generator. It is the same on every machine and in every process."""
    return Random(f"{task}:{seed}")


def length(random: Random, number: int, seq_len: int) -> int:
    """Return the number of tokens of example `number`: `seq_len` for the first, a quarter of it or more for others."""
    return seq_len if number == 0 else random.randint(max(seq_len // 4, MIN_LENGTH), seq_len)


MIN_LENGTH = 6
"""[CLS] a [SEP] b b [SEP]: the shortest pair of texts with a span in it."""


def ids(random: Random, vocabulary: Vocabulary, count: int) -> list[int]:
    """Return `count` random ids of ordinary tokens, from the longest range of ids without a special one."""
    borders = sorted({-1, vocabulary.pad, vocabulary.start, vocabulary.separator, vocabulary.size})
    low, high = max(pairwise(borders), key=lambda run: run[1] - run[0])
    return random.choices(range(low + 1, high), k=count)


def text(first: list[int], vocabulary: Vocabulary) -> Features:
    """Return one text with its special tokens, which are two."""
    return _features([vocabulary.start, *first, vocabulary.separator], [])


def pair(first: list[int], second: list[int], vocabulary: Vocabulary) -> Features:
    """Return two texts with their special tokens, which are three."""
    return _features([vocabulary.start, *first, vocabulary.separator], [*second, vocabulary.separator])


def _features(first: list[int], second: list[int]) -> Features:
    return {"input_ids": [*first, *second], "token_type_ids": [0] * len(first) + [1] * len(second)}
