import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from peftbench.errors import UserError
from peftbench.gate.compare import compare, siblings, suspects
from peftbench.gate.rule import Rule
from peftbench.gate.snapshot import CaseSnapshot, Profile, Session, Snapshot
from peftbench.gate.verdict import CaseVerdict, Change, Comparison, parse_fail_on, share

MakeSnapshot = Callable[..., Snapshot]


def by_id(comparison: Comparison) -> Mapping[str, CaseVerdict]:
    return {case.id: case for case in comparison.cases}


def verdicts(comparison: Comparison) -> Mapping[str, str]:
    return {case.id: case.verdict for case in comparison.cases}


def with_case(snapshot: Snapshot, name: str, **changes: object) -> Snapshot:
    return replace(
        snapshot,
        cases={**snapshot.cases, name: replace(snapshot.cases.get(name, CaseSnapshot()), **cast("Any", changes))},
    )


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
    back = by_id(compare(new, with_case(make_run(), "y", status="failed", reason="boom")))
    assert (back["b"].verdict, back["b"].reason) == ("new", "was out-of-memory before")
    assert (back["y"].verdict, back["y"].reason) == ("not comparable", "failed: boom; was failed before")


@pytest.mark.parametrize(
    ("name", "after", "verdict", "fails"),
    [
        ("flops", 1001, "regressed", True),
        ("flops", 999, "improved", False),
        ("operator_calls", 27, "regressed", True),
        ("bytecodes", 5050, "unchanged", False),
        ("bytecodes", 5051, "regressed", True),
        ("bytecodes", 4951, "unchanged", False),
        ("bytecodes", 4900, "improved", False),
    ],
)
def test_counters_are_exact_save_for_those_of_the_interpreter(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot, name: str, after: int, verdict: str, *, fails: bool
) -> None:
    new = make_run()
    before = new.cases["a"].counters
    found = by_id(compare(make_baseline(), with_case(new, "a", counters={**before, name: after})))["a"]
    assert found.verdict == verdict
    assert found.counters == (Change(name, before[name], after, fails=fails),)
    assert set(found.same_counters) == before.keys() - {name}


def test_a_counter_that_rises_from_zero_fails(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    base = with_case(make_baseline(), "a", counters={"allocations": 0})
    assert verdicts(compare(base, with_case(make_run(), "a", counters={"allocations": 1})))["a"] == "regressed"


def test_what_moved_a_counter_is_named(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    profile = Profile(
        {"aten::mm": 24, "aten::clone": 10, "aten::copy_": 1}, "cd34", {"lora_A": 512, "query": 900, "classifier": 1538}
    )
    counters = {"flops": 1000, "operator_calls": 35, "bytecodes": 5000}
    found = by_id(compare(make_baseline(), with_case(make_run(), "a", counters=counters, profile=profile)))["a"]
    assert found.operators == (Change("aten::clone", 2, 10), Change("aten::copy_", 0, 1))
    assert found.modules == (Change("query", 0, 900),)
    assert not found.reordered


def test_another_order_of_the_same_operators_is_told_beside_a_slowdown(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    new = make_run({"a": 0.1})
    profile = replace(new.cases["a"].profile, operator_hash="other")
    found = by_id(compare(make_baseline(), with_case(new, "a", profile=profile)))["a"]
    assert (found.verdict, found.reordered, found.operators) == ("regressed", True, ())


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
        name: replace(case, x={**case.x, "3": tuple(x + 0.1 for x in case.x["3"])}) for name, case in base.cases.items()
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
    new = make_run({"c": 0.06, "m": 0.06}, cases=20, launches=3)
    assert suspects(base, new, Rule()) == ["c", "m"]
    beside = siblings(base, new, Rule(), ["c", "m"])
    assert (len(beside), {"c", "m"} & {*beside}) == (4, set())
    assert siblings(base, new, Rule(), "abcdefghijklmnopqr") == ["s", "t"]
    assert suspects(base, make_run({"c": 0.06, "m": 0.06}, cases=20, launches=10), Rule()) == []
    few, slow = make_baseline(cases=3), make_run({"a": 0.06}, cases=3, launches=3)
    assert (suspects(few, slow, Rule()), siblings(few, slow, Rule(), "a")) == (["a"], [])


def test_after_the_second_stage_the_rest_keeps_its_first_launches(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    base, all_launches = make_baseline(cases=20), make_run({"c": 0.06}, cases=20, launches=10)
    first = make_run({"c": 0.06}, cases=20, launches=10)
    first = replace(
        first, cases={name: replace(case, x={"new": case.x["new"][:3]}) for name, case in first.cases.items()}
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
