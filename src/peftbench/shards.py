"""Cases to parts: the same parts on every machine, of nearly equal size, groups kept together where that can be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise


def divide(groups: Sequence[str], parts: int) -> list[list[int]]:
    """Return which cases each part takes, as places in the order of cases.

    Whole groups go to the part that has the fewest cases yet, the largest group first, since the cases of a group
    share a model, batches and a reference. With fewer groups than parts, the cases are cut into stretches.

    Args:
        groups: The group of each case, in order.
        parts: How many parts; those that get no case are empty.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    if len(members) < parts:
        cuts = [len(groups) * part // parts for part in range(parts + 1)]
        return [list(range(start, end)) for start, end in pairwise(cuts)]
    found: list[list[int]] = [[] for _ in range(parts)]
    for places in sorted(members.values(), key=len, reverse=True):
        min(found, key=len).extend(places)
    return [sorted(places) for places in found]
