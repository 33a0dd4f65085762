import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import structs

from peftbench.errors import UserError
from peftbench.gate.accept import AcceptRequest, accept
from peftbench.gate.compare import compare
from peftbench.gate.constants import Rule
from peftbench.gate.snapshot import Acceptance, CaseSnapshot, Session, Snapshot

MakeSnapshot = Callable[..., Snapshot]
WHY = AcceptRequest("faster kernel", date="2026-02-03", commit="abc123")


def in_session(run: Snapshot, name: str) -> Snapshot:
    """Give the one session of a run another name."""
    cases = {key: structs.replace(case, x=dict.fromkeys([name], case.x["new"])) for key, case in run.cases.items()}
    return replace(run, cases=cases, sessions={name: Session(name)})


def test_the_first_run_becomes_the_baseline(make_run: MakeSnapshot) -> None:
    new = make_run(launches=5)
    found = accept(None, new, WHY)
    assert found.baseline.sessions == {"1": Session("new")}
    assert found.baseline.cases["a"] == structs.replace(new.cases["a"], x={"1": new.cases["a"].x["new"]})
    assert found.baseline.accepted == (Acceptance("2026-02-03", "abc123", 8, "faster kernel"),)
    assert compare(found.baseline, new).counts() == {"unchanged": 8}


def test_what_is_accepted_takes_the_place_of_the_old_and_the_rest_stays(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    old, new = make_baseline(), make_run({"a": 0.1}, launches=10)
    found = accept(old, new, replace(WHY, keyword="a or b"))
    assert (found.recorded, found.kept) == (("a", "b"), tuple("cdefgh"))
    assert found.baseline.cases["a"].x == {"4": new.cases["a"].x["new"]}
    assert found.baseline.cases["c"] is old.cases["c"]
    assert list(found.baseline.sessions) == ["0", "1", "2", "3", "4"]
    assert found.baseline.accepted[-1].keyword == "a or b"
    everything = accept(old, new, WHY).baseline
    assert list(everything.sessions) == ["4"]
    assert compare(everything, new).counts() == {"unchanged": 8}


def test_cases_accepted_on_a_day_when_all_had_drifted_are_put_back_to_the_level_of_the_rest(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    drifted = make_run(dict.fromkeys("abcdefgh", 0.05), launches=20)
    found = accept(make_baseline(), drifted, replace(WHY, keyword="a")).baseline
    assert found.sessions["4"].shift == pytest.approx(0.05, abs=0.003)
    assert compare(found, make_run()).counts() == {"unchanged": 8}


def test_a_change_of_all_that_is_accepted_is_no_drift(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    slower = make_run(dict.fromkeys("abcdefgh", 0.05), launches=20)
    found = accept(make_baseline(), slower, WHY).baseline
    assert [session.shift for session in found.sessions.values()] == [0.0]
    assert compare(found, slower).suite[0].verdict == "unchanged"


def test_a_session_is_appended_five_launches_a_case_oldest_out_first(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    old = make_baseline()
    drifted = make_run(dict.fromkeys("abcdefgh", 0.02), launches=10)
    found = accept(old, drifted, replace(WHY, append=True)).baseline
    case = found.cases["a"]
    assert [len(values) for values in case.x.values()] == [5, 5, 5, 5]
    assert list(case.x) == list(found.sessions) == ["1", "2", "3", "4"]
    assert case.x["4"] == drifted.cases["a"].x["new"][:5]
    assert found.sessions["4"].shift == pytest.approx(0.02, abs=0.003)
    assert (case.time_s, case.counters) == (old.cases["a"].time_s, old.cases["a"].counters)
    assert found.accepted[-1].append


def test_launches_leave_one_by_one_and_a_session_with_its_last(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    found = make_baseline()
    for number in range(3):
        found = accept(found, in_session(make_run(launches=3), f"day {number}"), replace(WHY, append=True)).baseline
    assert {key: len(values) for key, values in found.cases["a"].x.items()} == {
        "1": 1,
        "2": 5,
        "3": 5,
        "4": 3,
        "5": 3,
        "6": 3,
    }
    assert "0" not in found.sessions


def test_appending_never_moves_the_counters(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    new = make_run()
    more = {"bytecodes": 5050}
    creeping = {name: structs.replace(case, counters={**case.counters, **more}) for name, case in new.cases.items()}
    found = accept(make_baseline(), replace(new, cases=creeping), replace(WHY, append=True)).baseline
    assert found.cases["a"].counters["bytecodes"] == 5000


@pytest.mark.parametrize(("other_bytes", "kept"), [(2, False), (3, True)])
def test_appending_brings_the_parts_of_a_sum_that_they_add_up_to(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot, other_bytes: int, *, kept: bool
) -> None:
    """A checkpoint whose size as a whole is known, of a baseline of version 1."""
    old, new = make_baseline(), make_run()
    total = {"checkpoint_bytes": 42.0}
    parts = {"checkpoint_tensor_bytes": 40.0, "checkpoint_other_bytes": float(other_bytes)}
    old = replace(old, cases={name: structs.replace(case, counters=total) for name, case in old.cases.items()})
    new = replace(new, cases={name: structs.replace(case, counters=parts) for name, case in new.cases.items()})
    found = accept(old, new, replace(WHY, append=True)).baseline
    assert found.cases["a"].counters == (total if kept else parts)


@pytest.mark.parametrize("shift", [0.08, -0.08])
def test_what_changed_cannot_be_appended(make_baseline: MakeSnapshot, make_run: MakeSnapshot, shift: float) -> None:
    verdict = "regressed" if shift > 0 else "improved"
    new = make_run({"a": shift})
    with pytest.raises(UserError, match=f"only an unchanged run can be appended: a {verdict}; mend the change"):
        accept(make_baseline(), new, replace(WHY, append=True))
    others = accept(make_baseline(), new, replace(WHY, append=True, keyword="not a")).baseline
    assert list(others.cases["a"].x) == ["0", "1", "2", "3"]


def test_a_common_slowdown_cannot_be_appended(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    with pytest.raises(UserError, match="common shift regressed"):
        accept(make_baseline(), make_run(dict.fromkeys("abcdefgh", math.log(1.05))), replace(WHY, append=True))


def test_what_is_in_doubt_can_be_appended_else_only_quiet_days_would_be_kept(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    old, new = make_baseline(spread=0.03), make_run({"a": math.log(1.025)}, launches=3, spread=0.03)
    assert {case.id: case.verdict for case in compare(old, new).cases}["a"] == "inconclusive"
    assert "4" in accept(old, new, replace(WHY, append=True)).baseline.cases["a"].x


def test_a_new_case_is_recorded_when_a_session_is_appended(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    found = accept(make_baseline(), make_run(cases=9), replace(WHY, append=True)).baseline
    assert list(found.cases["i"].x) == ["4"]
    assert len(found.cases["i"].x["4"]) == 10


def test_times_beside_others_on_the_gpu_are_not_accepted_and_counters_are(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    """The file cannot say that a launch was disturbed: nothing would tell it from the others."""
    run = make_run({"a": 0.3}, launches=10)
    run = replace(run, cases={**run.cases, "a": structs.replace(run.cases["a"], shared=True)})
    for old in (None, make_baseline()):
        found = accept(old, run, WHY)
        case = found.baseline.cases["a"]
        assert found.untimed == ("a",)
        assert (case.x, case.time_s, case.shared) == ({}, None, False)
        assert case.counters == run.cases["a"].counters
        assert found.baseline.cases["b"].x
    appended = accept(make_baseline(), run, replace(WHY, append=True))
    assert appended.untimed == ("a",)
    assert [list(appended.baseline.cases[name].x) for name in "ab"] == [list("0123"), list("1234")]
    assert appended.baseline.sessions["4"].shift == pytest.approx(0, abs=0.003)
    with pytest.raises(UserError, match="--append: something else used the GPU or the core"):
        accept(make_baseline(), run, replace(WHY, append=True, keyword="a"))


def test_cases_without_numbers_are_told_and_vanished_ones_stay_unless_pruned(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    new = make_run(cases=7)
    new = replace(new, cases={**new.cases, "a": CaseSnapshot(status="failed", reason="boom")})
    found = accept(make_baseline(), new, WHY)
    assert (found.skipped, found.kept) == ({"a": "failed: boom"}, ("a", "h"))
    assert accept(make_baseline(), new, replace(WHY, prune=True)).kept == ("a",)
    assert accept(make_baseline(), new, replace(WHY, prune=True, keyword="b")).kept == tuple("acdefgh")


def test_references_are_replaced_with_all_and_added_to_with_some(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    old = make_baseline(references={"r": {"0": (0.5,) * 5, "1": (0.4,) * 15}, "other": {"0": (0.3,)}})
    new = make_run(references={"r": {"new": (0.5,) * 7}})
    assert accept(old, new, WHY).baseline.references == {"r": {"4": (0.5,) * 7}}
    added = accept(old, new, replace(WHY, append=True)).baseline.references
    assert added == {"other": {"0": (0.3,)}, "r": {"1": (0.4,) * 15, "4": (0.5,) * 5}}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (replace(WHY, why=" "), "--why: say in one line why"),
        (replace(WHY, why="a\nb"), "--why: say in one line why"),
        (
            replace(WHY, keyword="lora"),
            r"nothing to accept: no case of the run matches -k 'lora'; the run's cases: a, b",
        ),
        (replace(WHY, keyword="a and"), "-k 'a and': column 6"),
    ],
)
def test_a_bad_request_is_refused(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot, request_: AcceptRequest, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        accept(make_baseline(), make_run(), request_)


def test_a_session_is_appended_to_what_is_there_and_only_once(
    make_baseline: MakeSnapshot, make_run: MakeSnapshot
) -> None:
    append = replace(WHY, append=True)
    with pytest.raises(UserError, match="there is no baseline of this fingerprint yet"):
        accept(None, make_run(), append)
    once = accept(make_baseline(), make_run(), append).baseline
    with pytest.raises(UserError, match="session 'new' is in the baseline already"):
        accept(once, make_run(), append)


def test_a_baseline_of_another_fingerprint_is_left_alone(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    with pytest.raises(UserError, match=r"the baseline is of other machine or versions: torch 2\.13\.0 -> 2\.14\.0"):
        accept(make_baseline(), make_run(fingerprint={**make_baseline().fingerprint, "torch": "2.14.0"}), WHY)


def test_a_run_without_any_numbers_is_not_accepted(make_run: MakeSnapshot) -> None:
    empty = replace(make_run(cases=1), cases={"a": CaseSnapshot(status="failed")})
    with pytest.raises(UserError, match="no selected case has numbers"):
        accept(None, empty, WHY)


def test_the_oldest_launches_of_a_long_run_are_left_out(make_run: MakeSnapshot) -> None:
    new = make_run(launches=30)
    assert accept(None, new, WHY, Rule(full_baseline=12)).baseline.cases["a"].x == {"1": new.cases["a"].x["new"][-12:]}
