"""What a page shows of files: every part from its numbers, and a sentence for what is lacking."""

import re
from dataclasses import replace

import msgspec
import pytest
from tests.records import FINGERPRINT
from tests.unit.pages.specimens import (
    SETTINGS,
    comparison,
    deployments,
    diff_case,
    everything,
    history,
    large_run,
    merges,
    on_gpu,
    small_run,
    training,
)

from peftbench.errors import UserError
from peftbench.pages import choose, details, guard, learning, overview, timeline
from peftbench.pages.content import PageContent, content_of
from peftbench.pages.sources import NamedFile, Sources
from peftbench.records.record import LoadPoint, Metric, Run


def page_of(*runs: Run) -> PageContent:
    return content_of(Sources(runs=tuple(NamedFile(f"{place}.json", run) for place, run in enumerate(runs))))


def test_the_first_look_names_the_cheapest_method_and_what_got_slower() -> None:
    cheapest, slower = content_of(everything()).headlines
    assert cheapest.question == "Which method is cheapest at equal quality?"
    assert "lora" in cheapest.answer
    assert slower.bad
    assert slower.answer.startswith("train_step[lora-nli-bs8]: 30.0 % slower")
    assert "20.0 % more FLOPs" in slower.answer
    assert slower.more[0] == "train_step[ia3-nli-bs8]: 10.0 % slower [+8.0 .. +12.0 %]"
    assert slower.more[1].startswith("Failed: 2 of 5 cases regressed")


def test_the_first_look_has_a_row_a_method_the_cheapest_to_the_target_first() -> None:
    (table,) = content_of(everything()).answers
    assert table.titles[:3] == ["method", "to target", "training"]
    assert "range" not in table.titles  # the chart beside it draws them
    assert [row[0] for row in table.rows] == ["lora", "full", "ia3", "houlsby", "poly"]
    costs = {row[0]: row[1] for row in table.rows}
    assert (costs["lora"], costs["ia3"], costs["houlsby"]) == ("0.500", "", "> 1.00 missed")
    drawn = [row["method"] for row in content_of(everything()).plots["overview"].rows]
    assert list(dict.fromkeys(drawn)) == ["lora", "full", "ia3", "houlsby"]
    assert not list(overview.tables([NamedFile("a", replace(small_run(), records=()))]))


def test_without_trainings_the_first_look_compares_steps_and_without_regression_it_says_so() -> None:
    steps = replace(small_run(), records=tuple(one for one in small_run().records if not one.variant))
    fine = msgspec.structs.replace(comparison(), headline="Passed: all.", cases=(diff_case("a", "unchanged", 0.0),))
    cheapest, slower = content_of(Sources((NamedFile("a", steps),), (NamedFile("d", fine),))).headlines
    assert cheapest.question == "Which method is cheapest a step?"
    assert re.match(r"lora: [\d.]+ \[[\d.]+, [\d.]+\] of full fine-tuning's time of a training step", cheapest.answer)
    assert (slower.answer, slower.bad) == ("Passed: all.", False)


def test_bad_input_is_a_page_that_says_so() -> None:
    run = small_run()
    empty = page_of(replace(run, records=()))
    assert empty.notices == ["The runs hold no case: nothing was measured."]
    assert not empty.plots
    alone = page_of(replace(run, records=tuple(one for one in run.records if one.method == "lora" and not one.variant)))
    assert "One method was measured (lora): there is nothing to compare it with." in alone.notices
    failed = page_of(replace(run, records=tuple(one for one in run.records if one.status != "ok")))
    assert "No case has numbers. The table names the reasons." in failed.notices
    assert [row.record.reason for row in failed.rows] == ["poly needs task ids, which this task does not have"]
    assert "1 case of 58 without numbers: the table names the reasons." in page_of(run).notices


def test_runs_of_two_machines_share_a_page_and_are_not_judged_together() -> None:
    run = small_run()
    other = replace(run, fingerprint={**FINGERPRINT, "cpu": "Another"}, settings={**run.settings, "threads": 4})
    found = page_of(run, other)
    notices = " ".join(found.notices)
    assert "1.json was not measured as 0.json was (cpu differ)" in notices
    assert "threads is 4, in 0.json it is 1" in notices
    assert not found.findings
    assert {row.run for row in found.rows} == {"0.json", "1.json"}


def test_more_cases_than_fit_are_counted() -> None:
    found = page_of(large_run(details.MOST_CASES + 7))
    assert len(found.details) == details.MOST_CASES
    assert len(found.rows) == details.MOST_CASES + 7
    assert any(notice.startswith("Details are left out of 7 of 1007 cases") for notice in found.notices)
    assert len(found.plots["rounds"].rows) == details.MOST_CASES
    assert len(found.plots["time-memory"].rows) == details.MOST_CASES + 7


def test_parts_of_memory_add_up_and_parts_of_a_round_keep_their_order() -> None:
    found = page_of(small_run())
    ids = {row["id"] for row in found.plots["memory"].rows}
    assert len(ids) == 32
    for row in found.rows:
        parts = [part["mb"] for part in found.plots["memory"].rows if part["id"] == row.record.id]
        if row.record.status == "ok":
            assert sum(parts) == pytest.approx((row.record.metrics["peak_bytes"].value or 0) / 1e6)
        names = [part["part"] for part in found.plots["phases"].rows if part["id"] == row.record.id]
        assert names in ([], ["forward", "backward", "optimizer"])


def test_memory_and_power_of_a_gpu_are_drawn_over_the_seconds_in_which_they_were_read() -> None:
    record = on_gpu(small_run().records[0])
    found = page_of(Run(FINGERPRINT, SETTINGS, (record, small_run().records[1]))).plots
    power, memory = found["timeline-power"].rows, found["timeline-memory"].rows
    assert [(row["seconds"], row["watts"]) for row in power] == [(place / 20, 90 + place) for place in range(200)]
    assert {row["id"] for row in (*power, *memory)} == {record.id}
    whole, mine = ([row["mb"] for row in memory if row["series"] == name] for name in ("all processes", "this process"))
    assert whole == [2000 + place for place in range(200)]
    assert mine == [1000 + 5 * (place // 5) for place in range(200)]  # looked at with every fifth reading


def test_timelines_of_many_cases_are_thinned_and_one_that_lacks_its_times_is_not_drawn() -> None:
    record = on_gpu(small_run().records[0])
    runs = [NamedFile("a", Run(FINGERPRINT, SETTINGS, tuple(replace(record, id=str(n)) for n in range(200))))]
    memory, power = timeline.plots(runs, 200)
    assert len(power.rows) == 200 * 50
    assert [row["watts"] for row in power.rows[:3]] == [90, 94, 98]
    assert "Reading 1, 5, 9, ... is drawn." in power.about
    assert len(memory.rows) + len(power.rows) <= timeline.MOST_POINTS
    broken = replace(record, timeline={"power_w": (1.0,), "device_bytes": (1.0, 2.0)})
    assert not any(plot.rows for plot in timeline.plots([NamedFile("a", Run({}, {}, (broken,)))], 1))


def facts(run: Run) -> dict[str, dict[str, str]]:
    return {one.title: dict(one.facts) for one in page_of(run).details[0].lists}


def test_what_costs_most_has_times_on_a_gpu_and_shares_on_a_cpu() -> None:
    record = small_run().records[0]
    on_cpu = facts(Run(FINGERPRINT, SETTINGS, (record,)))
    share = (record.longest_operators or ())[0]
    assert on_cpu["Operators that took longest"][share.name].endswith(f"% in {share.calls} calls")
    assert not [title for title in on_cpu if "ernel" in title]
    of_gpu = facts(Run(FINGERPRINT, SETTINGS, (on_gpu(record),)))
    assert of_gpu["Time by kind of kernel"] == {"matmul": "5.50 ms, 92 %", "copy": "0.500 ms, 8.3 %"}
    name, text = next(iter(of_gpu["Kernels that took longest"].items()))
    assert name.startswith("void ampere_sgemm_10x64")
    assert text == "1.00 ms in 10 calls (matmul)"
    assert "Operators that took longest" not in of_gpu


def test_the_table_has_the_columns_and_texts_of_the_terminal() -> None:
    rows = page_of(small_run()).rows
    titles = {column.title: column for column in choose.columns(rows)}
    assert {"ms [95 %]", "x full", "peak MB", "status"} <= set(titles)
    row = next(row for row in rows if row.record.method == "lora" and row.record.status == "ok")
    assert row.full is not None
    mine, full = (one.metrics["ratio"].value or 0 for one in (row.record, row.full))
    column = titles["x full"]
    assert column.number is not None
    assert column.number((row.record, row.full)) == pytest.approx(mine / full)
    assert column.text((row.record, row.full)) == f"{mine / full:.2f}"


def test_verdicts_are_sorted_by_what_matters() -> None:
    part = guard.comparison(NamedFile("d", comparison()))
    assert [row.verdict for row in part.rows] == ["regressed", "regressed", "inconclusive", "improved"]
    assert [row.id for row in part.rows][:2] == ["train_step[lora-nli-bs8]", "train_step[ia3-nli-bs8]"]
    assert part.worst == part.rows[0]
    assert part.rows[0].change == "+30.0 % [+28.0 .. +32.0 %]"
    assert part.rows[0].moved == ["FLOPs: 1,000,000 -> 1,200,000"]
    assert (part.unchanged, part.left_out) == (1, 0)
    many = tuple(diff_case(str(number), "regressed", number / 1e4) for number in range(guard.MOST_VERDICTS + 3))
    part = guard.comparison(NamedFile("d", msgspec.structs.replace(comparison(), cases=many)))
    assert (len(part.rows), part.left_out) == (guard.MOST_VERDICTS, 3)


def test_a_history_is_drawn_state_by_state() -> None:
    rows = content_of(Sources(histories=(NamedFile("h", history()),))).plots["history"].rows
    assert [(row["state"], row["kind"], round(row["change"])) for row in rows] == [
        ("peft==0.20", "SLOWER", 20),
        ("peft==0.21", "FASTER", -15),
    ]


def test_cost_and_quality_have_intervals_within_what_is_possible_and_a_missed_target_shows() -> None:
    points = {row["method"]: row for row in page_of(small_run()).plots["cost-quality"].rows}
    assert points["lora"]["seconds"] == pytest.approx(3.0)
    assert points["full"]["seconds"] == pytest.approx(6.0)
    assert points["lora"]["reached"]
    assert not points["houlsby"]["reached"]
    assert points["houlsby"]["shown"].startswith("at least 6.00 s")
    for row in points.values():
        assert 0 <= row["quality_low"] <= row["quality"] <= row["quality_high"] <= 1
        assert 0 <= row["seconds_low"] <= row["seconds"] <= row["seconds_high"]


def test_a_curve_has_the_range_over_seeds_at_the_steps_that_all_seeds_have() -> None:
    records = (training("full", 0, (0.5, 0.7, 0.9), 1.0), training("full", 1, (0.6, 0.8), 1.0))
    rows = page_of(Run(FINGERPRINT, SETTINGS, records)).plots["curves"].rows
    assert [(row["seconds"], row["low"], row["quality"], row["high"]) for row in rows] == [
        (1.0, 0.5, pytest.approx(0.55), 0.6),
        (2.0, 0.7, pytest.approx(0.75), 0.8),
    ]


def test_serving_is_drawn_for_each_mix_of_requests() -> None:
    rows = page_of(small_run()).plots["serving-latency"].rows
    groups = {row["group"] for row in rows}
    assert groups == {f"nli-bs8, {words}" for words in learning.MIXES.values()}
    assert {(row["series"], row["tasks"]) for row in rows} == {
        (series, count) for series in ("full by models", "lora by switch") for count in (1, 4, 8)
    }


def test_the_lowest_load_that_starves_is_marked_for_each_way_to_serve() -> None:
    rows = page_of(small_run()).plots["serving-load"].rows
    assert {row["group"] for row in rows} == {f"nli-bs8, {count} tasks" for count in (1, 4, 8)}
    lora = [row for row in rows if row["series"] == "lora by switch" and row["group"] == "nli-bs8, 4 tasks"]
    capacity = 8 / 0.005 / 1.4
    assert [row["offered"] / capacity for row in lora] == pytest.approx([0.5, 0.75, 0.9, 1.25, 1.5])
    assert [row["state"] for row in lora] == [*["keeps up"] * 3, "starvation point", "starved"]
    assert lora[0]["shown"] == "571 of 571 requests/s answered, median 5.00 ms, 95 % 15.0 ms"
    assert lora[-1]["shown"].endswith("median 400 ms, 95 % > 1600 ms")  # more than 5 % were left
    unseen = replace(deployments()[0], loads=(LoadPoint(9.0, 0.0, 5, 5, 0.0),))
    assert "serving-load" not in page_of(Run(FINGERPRINT, SETTINGS, (unseen,))).plots


def test_merged_adapters_are_points_of_bytes_and_quality_with_a_line_to_the_worst_task() -> None:
    rows = {(row["group"], row["method"]): row for row in page_of(small_run()).plots["merging"].rows}
    lora = [("nli+ner-bs8, lora", way) for way in ("own", "cat", "svd", "heads")]
    assert list(rows) == [*lora, ("nli+ner-bs8, ia3", "linear")]  # a ratio is to the method's own adapters
    svd = rows["nli+ner-bs8, lora", "svd"]
    assert svd["share"] == 0.55
    assert (svd["left_low"], svd["left"], svd["left_high"]) == pytest.approx((0.75, 0.855, 0.855))
    assert svd["shown"].endswith("worst task x 0.750, 0.550 MB, bytes x 0.55")
    unknown = replace(merges()[0], metrics={"quality_ratio": Metric(None, "1", reason="nothing")})
    assert "merging" not in page_of(Run(FINGERPRINT, SETTINGS, (unknown,))).plots


def test_a_target_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(UserError, match="target 'high' cannot be read"):
        content_of(everything(), target="high")
