from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from peftbench.records.shards import _absent, divide, own_part

groups = st.lists(st.sampled_from("abcdefg"), max_size=60)
parts = st.integers(1, 12)


@given(groups, parts)
def test_every_case_is_in_exactly_one_part(cases: list[str], count: int) -> None:
    found = divide(cases, count)
    assert len(found) == count
    assert sorted(place for part in found for place in part) == list(range(len(cases)))
    assert all(part == sorted(part) for part in found)


@given(groups, parts)
def test_groups_stay_together_where_there_are_enough(cases: list[str], count: int) -> None:
    found = divide(cases, count)
    holders = Counter(group for part in found for group in {cases[place] for place in part})
    if len(holders) >= count:
        assert set(holders.values()) <= {1}
        assert all(found)
    else:
        assert max(map(len, found), default=0) - min(map(len, found)) <= 1


def test_groups_of_equal_size_are_spread_evenly() -> None:
    assert [len(part) for part in divide([f"g{i // 12}" for i in range(144)], 5)] == [36, 36, 24, 24, 24]


@given(groups, parts)
def test_a_part_alone_is_what_it_is_among_all(cases: list[str], count: int) -> None:
    assert [own_part(cases, part, count) for part in range(1, count + 1)] == divide(cases, count)


def test_very_many_parts_cost_nothing() -> None:
    cases, parts = ["a", "a", "b"], 10**18
    assert own_part(cases, parts, parts) == [2]
    assert own_part(cases, 1, parts) == []
    assert _absent([3, 5], parts) == f"1-2, 4, 6-{parts}"
    assert _absent([1, 2], 2) == ""
