import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from msgspec import structs

from peftbench.errors import UserError
from peftbench.gate.compare import compare, siblings, suspects
from peftbench.gate.constants import Rule
from peftbench.gate.snapshot import CaseSnapshot, Profile, Session, Snapshot
from peftbench.gate.verdict import CaseVerdict, Change, Comparison, parse_fail_on, share

MakeSnapshot = Callable[..., Snapshot]


def by_id(comparison: Comparison) -> Mapping[str, CaseVerdict]:
    return {case.id: case for case in comparison.cases}


def verdicts(comparison: Comparison) -> Mapping[str, str]:
    return {case.id: case.verdict for case in comparison.cases}


def with_case(snapshot: Snapshot, name: str, **changes: object) -> Snapshot:
    case = structs.replace(snapshot.cases.get(name, CaseSnapshot()), **changes)
    return replace(snapshot, cases={**snapshot.cases, name: case})


def without(snapshot: Snapshot, name: str) -> Snapshot:
    return replace(snapshot, cases={key: case for key, case in snapshot.cases.items() if key != name})


def test_each_case_gets_the_verdict_of_its_launches(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    found = compare(make_baseline(), make_run({"a": math.log(1.061), "b": math.log(0.94)}))
    assert verdicts(found) == dict.fromkeys("cdefgh", "unchanged") | {"a": "regressed", "b": "improved"}
    assert list(found.counts()) == ["regressed", "improved", "unchanged"]
    time = by_id(found)["a"].time
    assert time is not None
    assert share(time.shift) == pytest.approx(0.061, abs=0.002)
    assert (time.base_launches, time.new_launches, time.launches_needed) == (20, 10, 0)
    assert time.low < time.shift < time.high
    assert time.p < 1e-3
    assert found.detectable is not None
    assert 0.02 < share(found.detectable) < 0.04


def test_in_doubt_it_says_how_many_more_launches_would_tell(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    found = by_id(compare(make_baseline(spread=0.03), make_run({"a": math.log(1.025)}, launches=3, spread=0.03)))["a"]
    assert found.verdict == "inconclusive"
    assert found.time is not None
    assert 0 < found.time.launches_needed < 20


def test_more_launches_planned_see_smaller_slowdowns(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    base, new = make_baseline(), make_run(launches=3)
    three, ten = compare(base, new).detectable, compare(base, new, planned_launches=10).detectable
    assert three is not None
    assert ten is not None
    assert three > ten > Rule().tolerance


def test_what_is_on_one_side_only_is_a_row(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    new = with_case(without(make_run(), "a"), "z", counters={"flops": 1})
    new = with_case(new, "b", status="out-of-memory", reason="needs 90 GB", x={})
    new = with_case(new, "c", status="unsupported", reason="no head", x={})
    new = with_case(new, "y", status="failed", reason="boom")
    found = by_id(compare(make_baseline(), new))
    assert {name: (found[name].verdict, found[name].reason) for name in "abcyz"} == {
        "a": ("missing", "is not in this run"),
        "b": ("regressed", "out-of-memory: needs 90 GB; it ran before"),
        "c": ("missing", "unsupported: no head; it ran before"),
        "y": ("new", "failed: boom"),
        "z": ("new", ""),
    }
    back = by_id(compare(new, with_case(make_run(), "y", status="failed", reason="another")))
    assert (back["b"].verdict, back["b"].reason) == ("new", "was out-of-memory before (needs 90 GB)")
    assert (back["y"].verdict, back["y"].reason) == ("not comparable", "failed: another; was failed before (boom)")
    twice = by_id(compare(new, new))
    assert (twice["y"].verdict, twice["y"].reason) == ("not comparable", "failed: boom; as before")


KIB = 1024


@pytest.mark.parametrize(
    ("name", "before", "after", "fails"),
    [
        ("flops", 1000, 1001, True),
        ("checkpoint_tensor_bytes", 10**9, 10**9 + 1, True),
        ("somebodys_own", 1000, 1001, True),
        ("checkpoint_other_bytes", 41801, 41880, False),
        ("checkpoint_other_bytes", 41801, 41801 + 64 * KIB, False),
        ("checkpoint_other_bytes", 41801, 41802 + 64 * KIB, True),
        ("checkpoint_other_bytes", 10**9, 10**9 + 65 * KIB, False),  # less than 1 %
        ("operator_calls", 1000, 1010, False),
        ("operator_calls", 1000, 1011, True),
        ("allocations", 0, 1, True),
        ("python_calls", 1000, 1011, True),
        ("bytecodes", 5000, 5050, False),
        ("bytecodes", 5000, 5051, True),
    ],
)
def test_a_rise_fails_by_what_the_counter_means_where_there_is_no_clock(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot, name: str, before: int, after: int, *, fails: bool
) -> None:
    elsewhere = {**make_baseline().fingerprint, "cpu": "EPYC"}
    base = with_case(make_baseline(), "a", counters={name: before, "weights_bytes": 7})
    new = with_case(make_run(fingerprint=elsewhere), "a", counters={name: after, "weights_bytes": 7})
    found = by_id(compare(base, new))["a"]
    assert found.verdict == ("regressed" if fails else "unchanged")
    assert found.counters == (Change(name, before, after, fails=fails),)
    assert found.same_counters == ("weights_bytes",)
    back = by_id(compare(replace(new, fingerprint=base.fingerprint), replace(base, fingerprint=elsewhere)))["a"]
    assert back.verdict == ("improved" if fails and before else "unchanged" if before else "improved")


@pytest.mark.parametrize(
    ("moved", "spread", "clock", "verdict"),
    [
        (0.0, 0.01, "unchanged", "unchanged"),
        (-0.06, 0.01, "improved", "improved"),
        (0.025, 0.04, "inconclusive", "regressed"),
        (0.08, 0.01, "regressed", "regressed"),
    ],
)
def test_where_the_clock_excludes_a_slowdown_the_interpreter_is_a_note_and_a_resource_is_not(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot, moved: float, spread: float, clock: str, verdict: str
) -> None:
    """PEFT 0.19.1 against 0.21.2: 1.7 % more bytecodes, no case slower, ten of twelve red."""
    more = {"flops": 1000, "operator_calls": 26, "bytecodes": 5085}
    new = with_case(make_run({"a": moved}, spread=spread), "a", counters=more)
    found = by_id(compare(make_baseline(spread=spread), new))["a"]
    assert found.time is not None
    assert (found.time.verdict, found.verdict) == (clock, verdict)
    assert found.counters == (Change("bytecodes", 5000, 5085, fails=verdict == "regressed"),)
    bigger = with_case(new, "a", counters={**more, "flops": 1001})
    assert by_id(compare(make_baseline(spread=spread), bigger))["a"].verdict == "regressed"


def test_the_gravest_counter_comes_first(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    before = {"bytecodes": 100, "allocations": 100, "checkpoint_other_bytes": 10, "weights_bytes": 100, "flops": 100}
    after = {"bytecodes": 100.5, "allocations": 150, "checkpoint_other_bytes": 10**6, "weights_bytes": 101, "flops": 99}
    base = with_case(make_baseline(), "a", counters=before)
    new = make_run(fingerprint={**base.fingerprint, "cpu": "EPYC"})
    found = by_id(compare(base, with_case(new, "a", counters=after)))["a"]
    assert [change.name for change in found.counters] == [
        "weights_bytes",
        "checkpoint_other_bytes",
        "allocations",
        "flops",
        "bytecodes",
    ]


@pytest.mark.parametrize(("bytes_", "verdict"), [(42_000, "unchanged"), (42_001 + 64 * KIB, "regressed")])
def test_a_checkpoint_of_which_one_side_knows_the_sum_alone_is_compared_as_a_sum(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot, bytes_: int, verdict: str
) -> None:
    """A baseline of before checkpoints were split, and a revision that does not split them, in lock-step."""
    total = {"flops": 1000, "checkpoint_bytes": 42_000}
    parts = {"flops": 1000, "checkpoint_tensor_bytes": 40_000, "checkpoint_other_bytes": bytes_ - 40_000}
    base, new = with_case(make_baseline(), "a", counters=total), with_case(make_run(), "a", counters=parts)
    found = by_id(compare(base, new))["a"]
    assert (found.verdict, found.reason) == (verdict, "")
    assert {*found.same_counters, *(change.name for change in found.counters)} == {"flops", "checkpoint_bytes"}
    base, new = with_case(make_baseline(), "a", counters=parts), with_case(make_run(), "a", counters=total)
    assert by_id(compare(base, new))["a"].reason == ""


def test_milliseconds_beside_a_percentage_agree_with_it(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    """The machine was faster that minute: 8.33 against 8.35 ms, while the step takes 6.4 % more of the reference."""
    base = with_case(make_baseline(), "a", time_s=0.00833)
    found = by_id(compare(base, with_case(make_run({"a": math.log(1.064)}), "a", time_s=0.00835)))["a"]
    assert found.time is not None
    assert found.new_s == 0.00835
    assert found.base_s is not None
    assert found.new_s / found.base_s - 1 == pytest.approx(share(found.time.shift))


def test_a_counter_that_rises_from_zero_fails(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    base = with_case(make_baseline(), "a", counters={"saved_bytes": 0})
    assert verdicts(compare(base, with_case(make_run(), "a", counters={"saved_bytes": 1})))["a"] == "regressed"


def test_what_moved_a_counter_is_named(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    profile = Profile(
        {"aten::mm": 24, "aten::clone": 10, "aten::copy_": 1}, "cd34", {"lora_A": 512, "query": 900, "classifier": 1538}
    )
    counters = {"flops": 1000, "operator_calls": 35, "bytecodes": 5000}
    found = by_id(compare(make_baseline(), with_case(make_run(), "a", counters=counters, profile=profile)))["a"]
    assert found.operators == (Change("aten::clone", 2, 10), Change("aten::copy_", 0, 1))
    assert found.modules == (Change("query", 0, 900),)
    assert not any(change.fails for change in (*found.operators, *found.modules))
    assert not found.reordered


@pytest.mark.parametrize(("shift", "verdict"), [(0.1, "regressed"), (0.0, "unchanged")])
def test_another_order_of_the_same_operators_is_a_note(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot, shift: float, verdict: str
) -> None:
    new = make_run({"a": shift})
    profile = replace(new.cases["a"].profile, operator_hash="other")
    found = by_id(compare(make_baseline(), with_case(new, "a", profile=profile)))["a"]
    assert (found.verdict, found.reordered, found.operators) == (verdict, True, ())
    assert not by_id(compare(make_baseline(), new))["a"].reordered


def test_a_counter_that_is_not_counted_any_more_is_told(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    found = by_id(compare(make_baseline(), with_case(make_run(), "a", counters={"flops": 1000})))["a"]
    assert (found.verdict, found.reason) == ("not comparable", "not measured any more: bytecodes, operator_calls")
    more = with_case(make_run(), "a", counters={"flops": 1001})
    assert by_id(compare(make_baseline(), more))["a"].verdict == "regressed"


def test_a_time_that_was_gated_and_is_not_measured_any_more_is_told(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    found = by_id(compare(make_baseline(), with_case(make_run(), "a", x={})))["a"]
    assert (found.verdict, found.reason) == ("not comparable", "its time is not measured any more")
    young = with_case(make_baseline(), "a", x={"0": (0.2, 0.2)})
    assert by_id(compare(young, with_case(make_run(), "a", x={})))["a"].verdict == "unchanged"


def test_on_another_machine_counters_are_judged_and_times_are_shown(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    new = make_run({"a": 0.2}, fingerprint={**make_baseline().fingerprint, "cpu": "EPYC"})
    new = with_case(new, "b", counters={"flops": 1001})
    found = compare(make_baseline(), new)
    assert found.notes == ("times are shown, not judged: other machine or versions: cpu Xeon -> EPYC",)
    assert verdicts(found) == dict.fromkeys("acdefgh", "unchanged") | {"b": "regressed"}
    time = by_id(found)["a"].time
    assert time is not None
    assert time.verdict is None
    assert share(time.shift) == pytest.approx(0.22, abs=0.01)
    assert (found.suite, found.detectable) == ((), None)
    assert suspects(make_baseline(), new, Rule()) == []


def test_other_versions_make_the_counters_they_determine_incomparable(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    torch = make_run(fingerprint={**make_baseline().fingerprint, "torch": "2.14.0"})
    found = compare(make_baseline(), with_case(torch, "a", counters={"flops": 9999}))
    assert "counters are not compared: other versions: torch 2.13.0 -> 2.14.0" in found.notes
    assert set(verdicts(found).values()) == {"not comparable"}
    python = make_run(fingerprint={**make_baseline().fingerprint, "python": "3.12.1"})
    same = {"flops": 1000, "operator_calls": 26}
    python = with_case(python, "a", counters={**same, "bytecodes": 9999})
    python = with_case(python, "c", counters=same)
    found = compare(make_baseline(), with_case(python, "b", counters={**same, "flops": 1001, "bytecodes": 9999}))
    assert verdicts(found)["c"] == "unchanged"
    assert found.notes[-1] == ("Python calls and bytecodes are not compared: other versions: python 3.11.7 -> 3.12.1")
    assert (verdicts(found)["a"], verdicts(found)["b"]) == ("unchanged", "regressed")


def test_a_version_under_test_may_differ(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    new = make_run({"a": 0.1}, fingerprint={**make_baseline().fingerprint, "peft": "0.22.0"})
    new = with_case(new, "b", counters={"flops": 1001})
    found = compare(make_baseline(), new, under_test=["peft"])
    assert (found.notes, found.counts()) == ((), {"regressed": 2, "unchanged": 6})


def test_under_other_settings_nothing_is_compared(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    found = compare(make_baseline(), make_run({"a": 1.0}, settings={"model": "tiny", "dtype": "bfloat16"}))
    assert found.notes == ("nothing is compared: other settings: dtype (none) -> bfloat16",)
    assert found.counts() == {"not comparable": 8}
    assert all(case.time is None and not case.counters for case in found.cases)


def test_what_moves_all_cases_is_a_verdict_of_its_own(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    together = dict.fromkeys("abcdefgh", math.log(1.04))
    found = compare(make_baseline(), make_run(together))
    assert set(verdicts(found).values()) == {"unchanged"}
    assert [(item.name, item.verdict) for item in found.suite] == [("common shift", "regressed")]
    assert share(found.suite[0].shift) == pytest.approx(0.04, abs=0.003)
    assert [item.name for item in found.failing({"regressed"}) if hasattr(item, "name")] == ["common shift"]
    assert compare(make_baseline(), make_run(dict.fromkeys("abcdefgh", 0.02))).suite[0].verdict == "unchanged"
    assert compare(make_baseline(), make_run(dict.fromkeys("abcdefgh", -0.05))).suite[0].verdict == "improved"


def test_few_cases_share_no_shift(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    found = compare(make_baseline(cases=4), make_run(dict.fromkeys("abcd", 0.1), cases=4))
    assert (found.suite, set(verdicts(found).values())) == ((), {"regressed"})


@pytest.mark.parametrize(("moved", "verdict"), [(0.2, "regressed"), (0.1, "unchanged"), (-0.2, "improved")])
def test_the_reference_itself_is_judged_coarsely(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot, moved: float, verdict: str
) -> None:
    logs = (0.50, 0.52, 0.48, 0.51, 0.49)
    base = make_baseline(references={"train_step nli": {"0": logs, "1": logs}, "other": {"0": logs}})
    new = make_run(references={"train_step nli": {"new": tuple(x + moved for x in logs)}})
    found = [item for item in compare(base, new).suite if item.name != "common shift"]
    assert [(item.name, item.verdict) for item in found] == [("reference of train_step nli", verdict)]
    assert found[0].shift == pytest.approx(moved)


def test_what_a_session_moved_by_when_accepted_is_taken_off(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    base = make_baseline()
    moved = {
        name: structs.replace(case, x={**case.x, "3": tuple(x + 0.1 for x in case.x["3"])})
        for name, case in base.cases.items()
    }
    sessions = {**base.sessions, "3": Session("loaded", 0.1)}
    shifted = compare(replace(base, cases=moved, sessions=sessions), make_run({"a": 0.06}))
    plain = compare(base, make_run({"a": 0.06}))
    assert verdicts(shifted) == verdicts(plain)
    assert shifted.detectable == pytest.approx(plain.detectable)


def test_too_few_launches_are_said(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    young = with_case(make_baseline(), "a", x={"0": (0.2, 0.2)})
    found = by_id(compare(young, make_run({"a": 1.0})))["a"]
    assert (found.verdict, found.reason) == ("unchanged", "the baseline holds 2 of the 5 launches that its time needs")
    found = by_id(compare(make_baseline(), make_run({"a": 1.0}, launches=2)))["a"]
    assert (found.verdict, found.reason) == ("inconclusive", "made 2 of the 3 launches that a verdict needs")
    bare = with_case(make_baseline(), "a", x={}, counters={})
    found = by_id(compare(bare, make_run()))["a"]
    assert (found.verdict, found.reason) == (
        "not comparable",
        "neither launches with a reference nor counters on both sides",
    )


def test_suspects_are_in_doubt_and_siblings_are_others_of_the_suite(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    base = make_baseline(cases=20)
    assert suspects(base, make_run(cases=20, launches=3), Rule()) == []
    new = make_run({"c": 0.025, "m": 0.025, "p": 0.1}, cases=20, launches=3)
    assert suspects(base, new, Rule()) == ["c", "m"]  # p is certain already
    for name, value, left in [("flops", 1001, ["m"]), ("bytecodes", 9000, ["c", "m"])]:
        told = with_case(new, "c", counters={**new.cases["c"].counters, name: value})
        assert suspects(base, told, Rule()) == left  # a resource has condemned c: no launch would turn that
    beside = siblings(base, new, Rule(), ["c", "m"])
    assert (len(beside), {"c", "m"} & {*beside}) == (4, set())
    assert siblings(base, new, Rule(), "abcdefghijklmnopqr") == ["s", "t"]
    assert suspects(base, make_run({"c": 0.03, "m": 0.03}, cases=20, launches=10), Rule()) == []
    few, slow = make_baseline(cases=3), make_run({"a": 0.03}, cases=3, launches=3)
    assert (suspects(few, slow, Rule()), siblings(few, slow, Rule(), "a")) == (["a"], [])


def test_after_the_second_stage_the_rest_keeps_its_first_launches(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    base, all_launches = make_baseline(cases=20), make_run({"c": 0.06}, cases=20, launches=10)
    first = make_run({"c": 0.06}, cases=20, launches=10)
    first = replace(
        first, cases={name: structs.replace(case, x={"new": case.x["new"][:3]}) for name, case in first.cases.items()}
    )
    again = [*suspects(base, first, Rule()), *siblings(base, first, Rule(), "c")]
    merged = replace(first, cases={**first.cases, **{name: all_launches.cases[name] for name in again}})
    found = by_id(compare(base, merged))
    assert {name for name, case in found.items() if case.verdict == "regressed"} == {"c"}
    assert {case.time.new_launches for case in found.values() if case.time is not None} == {3, 10}


def test_what_fails_is_spelled_in_words() -> None:
    assert parse_fail_on("regressed, not-comparable") == {"regressed", "not comparable"}
    assert parse_fail_on("strict") == {"regressed", "inconclusive", "missing", "not comparable"}
    assert parse_fail_on("none") == set()
    with pytest.raises(UserError, match="unknown verdict 'regresed': did you mean 'regressed'"):
        parse_fail_on("regresed")


def test_times_at_another_clock_are_not_comparable(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    base, new = make_baseline(), make_run(dict.fromkeys("abc", math.log(1.2)))
    for name, clock_mhz in [("a", 1500), ("b", 1920), ("c", 1980 * 1.05)]:
        base, new = with_case(base, name, clock_mhz=1980), with_case(new, name, clock_mhz=clock_mhz)
    found = by_id(compare(base, new))
    assert (found["a"].verdict, found["a"].time) == ("not comparable", None)
    assert found["a"].reason == "SM clock 1500 MHz, baseline 1980 MHz: differ by more than 5%"
    assert (found["b"].verdict, found["c"].verdict) == ("regressed", "regressed")
    assert "a" not in suspects(base, new, Rule())


def test_times_beside_others_are_not_comparable_unless_counters_moved(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    base, new = make_baseline(), make_run(dict.fromkeys("abc", math.log(1.2)))
    new = with_case(
        with_case(new, "a", shared=True), "b", shared=True, counters={**new.cases["b"].counters, "flops": 2000}
    )
    found = by_id(compare(base, new))
    assert (found["a"].verdict, found["a"].time) == ("not comparable", None)
    assert found["a"].reason == "others used its GPU or its core in this run: its record says how"
    assert [found[name].verdict for name in "bc"] == ["regressed", "regressed"]
    assert not {"a", "b"} & {*suspects(base, new, Rule())}
    paired = compare(base, new, pairs={"a": [math.log(1.2)] * 10})  # in lock-step both sides are slowed alike
    assert by_id(paired)["a"].verdict == "regressed"
