"""Several examples in one sequence, so that little of it is padding.

Positions begin at 0 with each example. Given them and no attention mask, transformers lets no token see another
example's. A token of padding has position 0, so it stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peftbench.tasks.base import Batch, Features
from peftbench.tasks.padding import IGNORED

POSITIONS: Final = "position_ids"


def packed(features: Sequence[Features], size: int) -> list[Features]:
    """Return the examples, several in each sequence of up to `size` tokens."""
    return [_joined([features[number] for number in pack]) for pack in packs([*map(_length, features)], size)]


def packs(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Return the numbers of the examples in each pack: every example once, at most `size` tokens in a pack.

    The longest is placed first, each into the fullest pack that has room for it (best fit, decreasing). The packs are
    in the order of their first example, and so are the examples of a pack.

    Args:
        lengths: Tokens of each example, none above `size`.
        size: Tokens of a pack.
    """
    by_room: dict[int, list[list[int]]] = {}
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        room = min((room for room in by_room if by_room[room] and room >= lengths[number]), default=None)
        pack = [] if room is None else by_room[room].pop()
        pack.append(number)
        by_room.setdefault((size if room is None else room) - lengths[number], []).append(pack)
    return sorted(sorted(pack) for found in by_room.values() for pack in found)


def tokens(batch: Batch) -> int:
    """Return the tokens of a packed batch without padding. An example has two tokens or more, so a 1 follows its 0."""
    import torch

    positions = batch[POSITIONS]
    following = torch.nn.functional.pad(positions[:, 1:], (0, 1))
    return int(((positions > 0) | (following == 1)).sum())


def _joined(parts: Sequence[Features]) -> Features:
    """Return one example. No token is predicted from another example's, so the first of each has no label."""
    return {
        "input_ids": [token for part in parts for token in part["input_ids"]],
        "token_type_ids": [0] * sum(map(_length, parts)),
        "labels": [label for part in parts for label in (IGNORED, *part["labels"][1:])],
        POSITIONS: [position for part in parts for position in range(_length(part))],
    }


def _length(features: Features) -> int:
    return len(features["input_ids"])
