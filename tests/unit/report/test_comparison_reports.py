import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from rich.cells import cell_len

from peftbench.gate.compare import compare
from peftbench.gate.constants import Rule
from peftbench.gate.snapshot import Profile, Snapshot
from peftbench.gate.verdict import FAIL_ON as FAIL
from peftbench.gate.verdict import CaseVerdict, Change, Comparison, SuiteVerdict, Time, Verdict
from peftbench.report import comparison as terminal
from peftbench.report import exports, markdown, wording
from peftbench.report.cause import cause
from peftbench.report.diffs import read_diff
from peftbench.report.sheets import of_diff

MakeSnapshot = Callable[..., Snapshot]

LORA = CaseVerdict(
    id="train_step[lora-nli-bs8]",
    verdict="regressed",
    time=Time("regressed", 0.0592, 0.0411, 0.0770, 2.2e-5, 20, 10, 0.03),
    base_s=0.0131 / math.exp(0.0592),
    new_s=0.0131,
    counters=(Change("bytecodes", 125000, 129000, fails=True), Change("operator_calls", 995, 1003)),
    same_counters=("flops", "saved_bytes", "peak_live_bytes"),
    operators=(Change("aten::clone", 0, 8),),
)
IA3 = CaseVerdict(
    id="train_step[ia3-nli-bs8]",
    verdict="unchanged",
    time=Time("unchanged", 0.004, -0.009, 0.0159, 0.9, 20, 3, 0.03),
    same_counters=("flops", "saved_bytes"),
)
DORA = CaseVerdict(
    id="train_step[dora-nli-bs8]",
    verdict="inconclusive",
    time=Time("inconclusive", 0.0334, -0.008, 0.0733, 0.2, 20, 10, 0.03, launches_needed=14),
)
GONE = CaseVerdict("train_step[vera-nli-bs8]", "missing", "is not in this run")
FOUND = Comparison(
    cases=(DORA, IA3, LORA, GONE),
    suite=(SuiteVerdict("common shift", "unchanged", 0.003, 0.03),),
    detectable=0.045,
    notes=("Python calls and bytecodes are not compared: other versions: python 3.11.7 -> 3.12.1",),
)


def test_each_verdict_is_told_in_one_line() -> None:
    assert wording.message(LORA, FOUND) == (
        "regressed: 6.1 % slower [+4.2 .. +8.0 %] (12.35 -> 13.10 ms), 3.2 % more bytecodes (125k -> 129k); p 2e-5, "
        "10 launches against 20; noted: 0.8 % more operator calls (995 -> 1003: +8 aten::clone); "
        "FLOPs, saved bytes, peak live bytes unchanged"
    )
    assert wording.message(IA3, FOUND) == (
        "unchanged: its time has not changed (+0.4 % [-0.9 .. +1.6 %]); a slowdown above 5 % is excluded"
    )
    assert wording.message(DORA, FOUND) == (
        "inconclusive: its time is in doubt (+3.4 % [-0.8 .. +7.6 %]); about 14 more launches would tell"
    )
    assert wording.message(GONE, FOUND) == "missing: is not in this run"


def test_parameters_that_are_trained_are_the_first_cause_of_what_follows_from_them() -> None:
    names = ("flops", "saved_bytes", "peak_live_bytes", "peak_bytes", "trainable_body", "total_parameters")
    counters = tuple(Change(name, 1000, 1500, fails=True) for name in names)
    case = structs.replace(LORA, time=None, counters=counters, modules=(Change("q_proj", 500, 1000),))
    first = "50.0 % more trained parameters (1000 -> 1500: +500 q_proj), 50.0 % more FLOPs (1000 -> 1500), "
    assert cause(case, FOUND).startswith(first)
    fewer = structs.replace(case, verdict="improved", counters=tuple(Change(name, 1500, 1000) for name in names))
    assert cause(fewer, FOUND).startswith("33.3 % fewer trained parameters (1500 -> 1000: +500 q_proj), 33.3 % fewer F")


SAVED = Change("saved_bytes", 4_200_000, 4_254_600, fails=True)


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ("unchanged", "; its time has not changed (-0.6 % [-2.7 .. +1.5 %])"),
        ("improved", "; it is faster (-0.6 % [-2.7 .. +1.5 %])"),
        ("inconclusive", "; its time is in doubt (-0.6 % [-2.7 .. +1.5 %])"),
        (None, "; its time is not judged (-0.6 % [-2.7 .. +1.5 %])"),
        ("regressed", ""),
    ],
)
def test_a_sentence_leads_with_its_cause_and_never_with_a_time_that_fell(verdict: Verdict | None, told: str) -> None:
    time = Time(verdict, -0.006, -0.0274, 0.0149, 0.5, 20, 3, 0.03)
    if verdict == "regressed":
        time = structs.replace(time, shift=0.0592, low=0.0411, high=0.0770)
    case = CaseVerdict("a", "regressed", time=time, counters=(SAVED, Change("bytecodes", 1000, 1009)))
    lead = "6.1 % slower [+4.2 .. +8.0 %], " if verdict == "regressed" else ""
    told = f"{lead}1.3 % more bytes saved for backward (4.20 -> 4.25 MB){told}"
    assert cause(case, FOUND) == told
    assert wording.message(case, FOUND).startswith(f"regressed: {told}")
    assert re.search(r"regressed[ :]+-", wording.message(case, FOUND)) is None
    only = Comparison((case,))
    assert told in terminal.render(only, fail_on=FAIL, width=400)
    assert told in markdown.render(only, fail_on=FAIL).replace("\\", "").replace("&gt;", ">")
    assert json.loads(exports.to_json(only, fail_on=FAIL))["cases"][0]["cause"] == told
    assert told in exports.github_annotations(only, fail_on=FAIL).replace("%25", "%")


def test_a_time_that_moved_a_little_is_not_said_to_stand_still() -> None:
    case = structs.replace(IA3, time=Time("unchanged", 0.02, 0.005, 0.036, 0.1, 20, 3, 0.03))
    assert cause(case, FOUND) == "its time has moved by less than 5 % (+2.0 % [+0.5 .. +3.7 %])"


def test_an_improvement_leads_with_what_fell() -> None:
    time = Time("improved", -0.08, -0.09, -0.07, 1e-9, 20, 3, 0.03)
    fewer = Change("flops", 10**7, 9 * 10**6)
    noted = Change("bytecodes", 1000, 700)
    case = CaseVerdict("a", "improved", time=time, counters=(fewer, noted))
    faster = "7.7 % faster [-8.6 .. -6.8 %]"
    assert cause(case, FOUND) == f"{faster}, 10.0 % fewer FLOPs (10.0M -> 9.00M)"
    assert "noted: 30.0 % fewer bytecodes (1000 -> 700)" in wording.message(case, FOUND)
    assert cause(structs.replace(case, time=None), FOUND) == (
        "10.0 % fewer FLOPs (10.0M -> 9.00M), 30.0 % fewer bytecodes (1000 -> 700)"
    )


def test_a_case_that_has_no_numbers_any_more_says_what_became_of_it() -> None:
    case = CaseVerdict("a", "regressed", "out-of-memory: needs 90 GB; it ran before")
    assert wording.message(case, FOUND) == "regressed: out-of-memory: needs 90 GB; it ran before"
    assert cause(case, FOUND) == case.reason
    still = CaseVerdict("a", "unchanged", same_counters=("flops", "saved_bytes"))
    assert wording.message(still, FOUND) == "unchanged: none of its 2 counters moved"


def test_the_verdict_comes_as_a_sentence_with_counts_and_what_could_have_been_seen() -> None:
    assert wording.headline(FOUND, FAIL) == "Failed: 1 of 4 cases regressed (train_step[lora-nli-bs8])."
    assert wording.headline(FOUND, {"inconclusive", "missing"}) == (
        "Failed: 1 of 4 cases inconclusive (train_step[dora-nli-bs8]); 1 of 4 cases missing (train_step[vera-nli-bs8])."
    )
    assert wording.headline(FOUND, ()) == "Passed: 3 of 4 cases compared, and none failed."
    assert wording.counts(FOUND) == "1 regressed, 1 inconclusive, 1 unchanged, 1 missing"
    assert wording.sensitivity(FOUND) == "smallest slowdown that is seen with 90 % power: 4.6 %"
    assert wording.sensitivity(Comparison(())) == "no time was judged: no slowdown would have been seen"
    assert wording.counts(Comparison(())) == "no cases"


def test_what_all_cases_share_is_told() -> None:
    together = SuiteVerdict("common shift", "regressed", 0.0402, 0.03)
    reference = SuiteVerdict("reference of train_step nli", "improved", -0.2, 0.15)
    assert wording.suite_line(FOUND.suite[0]) == "common shift +0.3 % against the references, accepted up to 3 %"
    assert wording.suite_line(replace(reference, verdict="unchanged", shift=0.05)) == (
        "reference of train_step nli +5.1 % against the anchor, accepted up to 15 %"
    )
    assert wording.suite_line(replace(reference, verdict="unchanged")) == (
        "reference of train_step nli -18.1 % against the anchor: more than 15 %, but not for certain"
    )
    assert wording.suite_line(together) == (
        "common shift regressed: every case moved by +4.1 % against its reference, more than 3 %"
    )
    assert wording.suite_line(reference) == (
        "reference of train_step nli improved: it moved by -18.1 % against the anchor, more than 15 %"
    )
    assert wording.headline(Comparison((IA3,), (together,)), FAIL) == "Failed: common shift regressed."


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Change("flops", 10**12, 10**12 + 1, fails=True), "1 more FLOPs (1000000000000 -> 1000000000001)"),
        (Change("flops", 10**12, 11 * 10**11, fails=True), "10.0 % more FLOPs (1.00T -> 1.10T)"),
        (Change("allocations", 0, 3, fails=True), "3 more allocations (0 -> 3)"),
        (Change("saved_bytes", 0, 10**9, fails=True), "1.00G more bytes saved for backward (0 -> 1.00 GB)"),
        (Change("weights_bytes", 41801, 41880, fails=True), "0.2 % more bytes of weights (41.8 -> 41.9 kB)"),
        (Change("weights_bytes", 41801, 41802, fails=True), "1 more bytes of weights (41.801 -> 41.802 kB)"),
        (Change("bytecodes", 5000, 5200, fails=True), "4.0 % more bytecodes (5000 -> 5200)"),
        (Change("my_own", 50, 52, fails=True), "4.0 % more my own (50 -> 52)"),
    ],
)
def test_a_counter_is_told_by_what_is_short_and_exact(change: Change, text: str) -> None:
    assert wording.explanation(CaseVerdict("a", "regressed", counters=(change,)), FOUND) == text


def test_modules_and_an_unseen_reordering_are_told() -> None:
    grown = CaseVerdict(
        "a",
        "regressed",
        counters=(Change("trainable_body", 512, 1536, fails=True),),
        modules=tuple(Change(f"layer.*.{name}", 0, 256) for name in ("k", "o", "q", "v")),
    )
    assert wording.explanation(grown, FOUND) == (
        "200.0 % more trained parameters (512 -> 1536: +256 layer.*.k, +256 layer.*.o, +256 layer.*.q and 1 more)"
    )
    swapped = structs.replace(LORA, counters=(), operators=(), reordered=True, time=None)
    assert wording.explanation(swapped, FOUND).startswith("noted: operators in another order; FLOPs")
    other = Change("aten::mm", 8, 0), Change("aten::bmm", 0, 8)
    replaced = structs.replace(LORA, counters=(), operators=other, time=None)
    assert wording.explanation(replaced, FOUND).startswith("noted: operators -8 aten::mm, +8 aten::bmm; FLOPs")
    slower = structs.replace(LORA, counters=(), operators=())
    assert wording.explanation(slower, FOUND).endswith("10 launches against 20; 3 counters unchanged")


@pytest.mark.parametrize("width", [30, 60, 80, 109, 110, 200])
def test_the_table_fits_the_terminal(width: int) -> None:
    text = terminal.render(FOUND, fail_on=FAIL, width=width, everything=True)
    assert all(cell_len(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("width", [30, 60, 80, 109])
def test_a_narrow_terminal_loses_nothing(width: int) -> None:
    text = re.sub(r"\s", "", terminal.render(FOUND, fail_on=FAIL, width=width))
    for case in (LORA, DORA, GONE):
        assert re.sub(r"\s", "", f"{case.id}: {wording.explanation(case, FOUND)}") in text
    assert IA3.id not in text


def test_unchanged_cases_are_listed_where_all_are_wanted() -> None:
    assert IA3.id in terminal.render(FOUND, fail_on=FAIL, width=200, everything=True)
    assert IA3.id not in terminal.render(FOUND, fail_on=FAIL, width=200)


def test_the_table_begins_with_the_verdict_and_lists_the_worst_first() -> None:
    lines = terminal.render(FOUND, fail_on=FAIL, width=400).splitlines()
    assert lines[0] == "Failed: 1 of 4 cases regressed (train_step[lora-nli-bs8])."
    assert lines[1].startswith("1 regressed, 1 inconclusive, 1 unchanged, 1 missing; smallest slowdown")
    assert lines[2:4] == [wording.suite_line(FOUND.suite[0]), FOUND.notes[0]]
    assert [line.split()[0] for line in lines[4:]] == ["case", LORA.id, DORA.id, GONE.id]
    assert "REGRESSED" in lines[5]


def test_two_bounds_are_called_by_what_lies_between_them() -> None:
    stricter = replace(FOUND, rule=Rule(confidence=0.99))
    for comparison, level in ((FOUND, "90 %"), (stricter, "98 %")):  # each bound is passed with 5 %, or with 1 %
        assert f"against reference [{level}]" in terminal.render(comparison, fail_on=FAIL, width=400)
        assert f"against reference [{level}]" in markdown.render(comparison, fail_on=FAIL)
        diff = read_diff(json.loads(exports.to_json(comparison, fail_on=FAIL)), "")
        assert f"change [{level}]" in [column.title for column in of_diff(diff).columns]


def test_color_is_only_where_it_is_asked_for() -> None:
    assert "\x1b[" not in terminal.render(FOUND, fail_on=FAIL, width=80)
    assert "\x1b[" in terminal.render(FOUND, fail_on=FAIL, width=80, color=True)


def test_markdown_says_the_verdict_first_and_folds_the_full_table() -> None:
    text = markdown.render(FOUND, fail_on=FAIL)
    head, folded = text.split("<details>")
    assert head.startswith(r"**Failed: 1 of 4 cases regressed (train\_step\[lora-nli-bs8\]).**")
    assert [line.count(" | ") for line in head.splitlines() if line.startswith("|")] == [4] * 5
    assert "ia3" not in head
    assert " | :red_circle: regressed | " in head
    assert "<summary>All 4 cases</summary>" in folded
    assert "ia3" in folded
    assert folded.rstrip().endswith("</details>")


def test_markdown_shows_ids_as_they_are() -> None:
    odd = structs.replace(GONE, id="a|b`c`<d>*e*_f_@you [g](h)")
    text = markdown.render(Comparison((odd,)), fail_on=FAIL)
    assert r"| a\|b\`c\`&lt;d&gt;\*e\*\_f\_@&#8203;you \[g\](h) |" in text


def test_markdown_stays_below_the_limit_and_counts_what_it_leaves_out() -> None:
    cases = tuple(structs.replace(LORA, id=f"train_step[method-é{i:05d}]") for i in range(9000))
    text = markdown.render(Comparison(cases), fail_on=FAIL)
    assert 900_000 < len(text.encode()) < 2**20
    left = re.findall(r"\n(\d+) cases more: see the file of the comparison", text)
    shown = sum(line.startswith("| train") for line in text.splitlines())
    assert left
    assert shown + int(left[0]) == 9000
    assert len(markdown.render(Comparison(cases), fail_on=FAIL, max_bytes=5000).encode()) < 5000


def test_json_holds_everything_in_shares() -> None:
    data = json.loads(exports.to_json(FOUND, fail_on=FAIL))
    assert (data["schema"], data["failed"], data["counts"]["regressed"]) == ("peftbench/comparison/1", True, 1)
    lora = next(case for case in data["cases"] if case["id"] == LORA.id)
    assert lora["time"]["change"] == pytest.approx(0.061, abs=1e-4)
    assert lora["operators"] == [{"name": "aten::clone", "before": 0, "after": 8, "fails": False}]
    assert data["rule"]["limit"] == Rule().limit
    lost = {*CaseVerdict.__struct_fields__} - lora.keys()
    assert lost == {"reason"}  # which it has none
    assert set(json.loads(exports.nothing_to_json("why", failed=True))) == set(data)
    assert exports.to_json(FOUND, fail_on=FAIL).count("\n{") == len(FOUND.cases)  # a line each
    assert json.loads(exports.to_json(Comparison(()), fail_on=FAIL))["failed"] is False


def test_annotations_name_what_fails_as_github_wants_it() -> None:
    lines = exports.github_annotations(FOUND, fail_on=FAIL).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(
        "::error title=train_step[lora-nli-bs8] regressed::regressed: 6.1 %25 slower [+4.2 .. +8.0 %25]"
    )
    odd = structs.replace(GONE, id="a:b,c%", reason="two\nlines")
    assert exports.github_annotations(Comparison((odd,)), fail_on={"missing"}) == (
        "::error title=a%3Ab%2Cc%25 missing::missing: two\\nlines\n"
    )
    assert exports.github_annotations(FOUND, fail_on=()) == ""
    together = SuiteVerdict("common shift", "regressed", 0.0402, 0.03)
    assert "title=common shift regressed::common shift regressed: every case" in exports.github_annotations(
        replace(FOUND, suite=(together,)), fail_on=FAIL
    )


def test_annotations_beyond_what_github_shows_are_counted() -> None:
    cases = tuple(structs.replace(LORA, id=f"{i}") for i in range(25))
    lines = exports.github_annotations(Comparison(cases), fail_on=FAIL).splitlines()
    assert len(lines) == 10
    assert lines[-1] == "::error title=peftbench::16 more; see the summary"


def test_exports_have_the_forms_of_bencher_and_github_action_benchmark(make_run: MakeSnapshot) -> None:
    run = make_run(cases=2)
    data: dict[str, Any] = json.loads(exports.to_bencher(run))
    assert set(data) == {"a", "b"}
    assert data["a"]["latency"] == {"value": pytest.approx(0.0131e9)}
    ratio = data["a"]["ratio-to-reference"]
    assert ratio["lower_value"] < ratio["value"] < ratio["upper_value"]
    assert data["a"]["operator-calls"] == {"value": 26}
    entries = json.loads(exports.to_action_benchmark(run))
    assert {"name": "a: flops", "unit": "FLOP", "value": 1000} in entries
    assert all({"name", "unit", "value"} <= set(entry) for entry in entries)
    assert all(isinstance(entry["value"], int | float) for entry in entries)
    assert next(entry for entry in entries if entry["name"] == "b: ratio")["range"].startswith("± ")


def test_a_real_comparison_goes_through_every_report(make_baseline: MakeSnapshot, make_run: MakeSnapshot) -> None:
    new = make_run({"a": 0.06})
    changed = structs.replace(new.cases["a"], counters={"flops": 1001}, profile=Profile({"aten::mm": 25}))
    found = compare(make_baseline(), replace(new, cases={**new.cases, "a": changed}))
    for text in (
        terminal.render(found, fail_on=FAIL, width=100),
        markdown.render(found, fail_on=FAIL),
        exports.to_json(found, fail_on=FAIL),
        exports.github_annotations(found, fail_on=FAIL),
    ):
        assert "regressed" in text.lower()
        assert "0.1 % more FLOPs (1000 -> 1001" in text.replace("&gt;", ">").replace("%25", "%")
