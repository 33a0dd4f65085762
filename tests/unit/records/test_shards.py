from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftbench.errors import UserError
from peftbench.records.record import Record, Run
from peftbench.records.shards import _absent, divide, join_shards, own_part

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


def shard(part: int, planned: str, done: str, *, parts: int = 4, cases: int = 6) -> Run:
    note = {"part": part, "parts": parts, "cases": cases, "planned": list(planned)}
    records = tuple(Record(name, "train_step", "lora", "nli", 1, 8, "ok") for name in done)
    return Run({}, {}, records, {"shard": note})


def test_shards_are_joined_in_their_order_without_their_notes() -> None:
    parts = {"two": shard(2, "cd", "cd"), "rest": Run({}, {}, shard(0, "", "z").records), "one": shard(1, "ab", "ab")}
    whole, missing = join_shards({name: parts[name] for name in ("two", "rest", "one")})
    assert "".join(record.id for record in whole.records) == "abcdz"
    assert "shard" not in whole.notes
    assert missing == ("2 cases, of shard 3-4 of 4",)


def test_what_is_missing_is_named_by_case_and_by_shard() -> None:
    parts = {
        str(part): shard(part, planned, done) for part, planned, done in ((1, "ab", "a"), (2, "", ""), (4, "f", ""))
    }
    assert join_shards(parts)[1] == ("b, of shard 1", "f, of shard 4", "3 cases, of shard 3 of 4")
    whole = {str(part): shard(part, name, name, parts=2, cases=2) for part, name in ((1, "a"), (2, "b"))}
    assert join_shards(whole)[1] == ()
    assert join_shards({"a": replace(whole["1"], notes={})})[1] == ()


@pytest.mark.parametrize(
    ("other", "told"), [({"parts": 5}, "of 4 and of 5 parts"), ({"cases": 7}, "of 6 and of 7 cases")]
)
def test_shards_of_different_runs_are_refused(other: dict[str, int], told: str) -> None:
    with pytest.raises(UserError, match=rf"^x and y are not shards of one run: {told}$"):
        join_shards({"x": shard(1, "a", "a"), "y": shard(2, "b", "b", **other)})


def test_very_many_parts_cost_nothing() -> None:
    cases, parts = ["a", "a", "b"], 10**18
    assert own_part(cases, parts, parts) == [2]
    assert own_part(cases, 1, parts) == []
    assert _absent([3, 5], parts) == f"1-2, 4, 6-{parts}"
    assert _absent([1, 2], 2) == ""
