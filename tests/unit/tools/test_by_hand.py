"""A comparison with rounds by hand: drift and the place in the order cancel, and a real difference stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tools.by_hand import in_pairs

from peftbench.measure.time.clock import Timing


@pytest.mark.parametrize("ratio", [1.0, 1.02])
def test_drift_and_the_place_in_the_order_cancel_within_a_pair_of_rounds(ratio: float) -> None:
    taken = ["ours"]  # of the pair before

    def side(name: str, time_s: float) -> Callable[[int], Timing]:
        def timed(number: int) -> Timing:
            assert taken[1:].count(name) == number
            after_the_other = 1.08 if taken[-1] != name else 1.0
            taken.append(name)
            return Timing(time_s * after_the_other * 1.001 ** len(taken))  # the machine becomes slower and slower

        return timed

    rounds = in_pairs(side("ours", ratio), side("plain", 1.0), pairs=20)
    quotients = [case.wall_s / reference.wall_s for case, reference in zip(rounds.case, rounds.reference, strict=True)]
    assert quotients == pytest.approx([ratio] * 20, rel=1e-9)
    assert taken[1:].count("ours") == taken[1:].count("plain") == 40
