import json
import math
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.records import a_record

from peftbench.errors import UserError
from peftbench.gate import load
from peftbench.gate.compare import compare
from peftbench.gate.lines import CurveLine, KernelLine, LaunchLine, LoadLine, MetricLine, OperatorLine, RecordLine
from peftbench.gate.load import load_snapshot
from peftbench.gate.snapshot import CaseSnapshot, Profile, Session, Snapshot, snapshot_of
from peftbench.gate.store import save
from peftbench.records.record import (
    CurvePoint,
    KernelTime,
    Launch,
    LoadPoint,
    Metric,
    OperatorShare,
    Record,
    Run,
)
from peftbench.records.runfile import run_from_json, save_run

LAUNCHES = (
    Launch("s1", 40, 0.012, reference_s=0.010, x=0.18, anchor_s=0.02),
    Launch("s1", 42, 0.014, reference_s=0.011, x=0.24, anchor_s=0.02),
    Launch("s2", 41, 0.013),
)
RECORD = a_record(
    seq_len=128,
    metrics={
        "flops": Metric(1000, "FLOP"),
        "time_s": Metric(0.013, "s", noise="timed"),
        "accuracy": Metric(0.5, "1", better="higher"),
        "energy_j": Metric(None, "J", reason="no NVML"),
        "rss_bytes": Metric(7, "B", noise="sampled"),
    },
    launches=LAUNCHES,
    operators={"aten::mm": 24},
    operator_hash="ab12",
    modules={"classifier": 6},
)
SIBLING = replace(
    RECORD,
    id="train_step[ia3-nli-bs8]",
    launches=(replace(LAUNCHES[0], reference_s=0.012, x=0.1), replace(LAUNCHES[1], reference_s=0.013, x=0.1)),
)
FAILED = replace(
    RECORD,
    id="z",
    status="failed",
    reason="boom",
    metrics={},
    launches=(),
    loads=(LoadPoint(50.0, 48.5, 40, 1, 2.5), LoadPoint(50.0, 48.5, 40, 1, 2.5, 0.4, 0.1, 0.2, 0.3)),
    longest_kernels=(KernelTime("gemm", "matmul", 7, 0.001),),
    longest_operators=(OperatorShare("aten::mm", 7, 0.5),),
    timeline={"t_s": (0.0, 0.1)},
)
RUN = Run({"device": "cpu"}, {"model": "tiny", "sizes": (1, 8)}, (RECORD, SIBLING, FAILED))


def test_of_a_sum_whose_parts_are_known_the_parts_are_compared() -> None:
    parts = {"checkpoint_tensor_bytes": Metric(40, "B"), "checkpoint_other_bytes": Metric(2, "B")}
    total = {"checkpoint_bytes": Metric(42, "B")}
    for metrics, names in [({**total, **parts}, parts), (total, total)]:
        run = replace(RUN, records=(replace(RECORD, metrics=metrics),))
        assert snapshot_of(run).cases[RECORD.id].counters == {name: metrics[name].value for name in names}


def test_a_snapshot_holds_what_the_gate_compares() -> None:
    found = snapshot_of(RUN)
    profile = Profile({"aten::mm": 24}, "ab12", {"classifier": 6})
    assert found.cases[RECORD.id] == CaseSnapshot({"s1": (0.18, 0.24)}, 41, 0.013, {"flops": 1000}, profile)
    assert found.cases["z"] == CaseSnapshot(status="failed", reason="boom", profile=profile)
    clocked = replace(RECORD, metrics={"sm_clock_mhz": Metric(1980, "MHz", "neither", "sampled")})
    assert snapshot_of(replace(RUN, records=(clocked,))).cases[RECORD.id].clock_mhz == 1980
    assert found.cases[RECORD.id].profile is found.cases["z"].profile
    assert found.sessions == {"s1": Session("s1")}
    assert found.settings == {"model": "tiny", "sizes": [1, 8]}
    assert found.launches(RECORD.id) == [0.18, 0.24]


def test_the_reference_of_a_launch_is_the_median_over_the_cases_that_saw_it() -> None:
    found = snapshot_of(RUN).references
    expected = [
        (math.log(0.010 / 0.02) + math.log(0.012 / 0.02)) / 2,
        (math.log(0.011 / 0.02) + math.log(0.013 / 0.02)) / 2,
    ]
    assert found == {"train_step nli-bs8-len128": {"s1": pytest.approx(tuple(expected))}}


def test_references_of_functions_that_share_a_workloads_name_are_not_pooled() -> None:
    mine = replace(SIBLING, id="test_mine[ia3-nli-bs8]")
    logs = {"s1": pytest.approx((math.log(0.010 / 0.02), math.log(0.011 / 0.02)))}
    assert snapshot_of(replace(RUN, records=(RECORD, mine))).references == {
        "train_step nli-bs8-len128": logs,
        "test_mine train_step nli-bs8-len128": {"s1": pytest.approx((math.log(0.6), math.log(0.65)))},
    }


def test_references_that_an_older_baseline_pooled_are_not_judged() -> None:
    """It may hold `<lambda>` for all functions together: whatever that is, it is no verdict on one of them."""
    launches = tuple(
        replace(LAUNCHES[0], session=f"s{number // 5}", reference_s=0.01 + number * 1e-6) for number in range(20)
    )
    run = replace(RUN, records=(replace(RECORD, id="test_mine[lora-nli-bs8]", workload="<lambda>", launches=launches),))
    new = snapshot_of(run)
    (logs,) = new.references.values()
    pooled = {name: tuple(value + 1.0 for value in values) for name, values in logs.items()}
    old = replace(new, references={"<lambda> nli-bs8-len128": pooled})
    assert [item.name for item in compare(old, new).suite] == []
    assert [item.verdict for item in compare(replace(new, references=dict.fromkeys(new.references, pooled)), new).suite]


def test_the_quick_reader_and_the_careful_one_agree(tmp_path: Path) -> None:
    save_run(RUN, tmp_path / "run.json")
    (tmp_path / "indented.json").write_text(json.dumps(json.loads((tmp_path / "run.json").read_text()), indent=1))
    (tmp_path / "dense.json").write_text(json.dumps(RUN.to_json()))
    for name in ("run", "indented", "dense"):
        assert load_snapshot(tmp_path / f"{name}.json") == snapshot_of(RUN)


def test_what_we_write_is_read_quickly(tmp_path: Path) -> None:
    save_run(RUN, tmp_path / "run.json")
    assert load._stream_run(tmp_path / "run.json") == snapshot_of(RUN)


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        (RecordLine, Record),
        (LaunchLine, Launch),
        (MetricLine, Metric),
        (CurveLine, CurvePoint),
        (LoadLine, LoadPoint),
        (KernelLine, KernelTime),
        (OperatorLine, OperatorShare),
    ],
)
def test_lines_have_the_fields_of_what_was_written(line: type, whole: type) -> None:
    assert signature(line).parameters.keys() == signature(whole).parameters.keys()


JUNK: tuple[object, ...] = (
    *(None, True, 7, -1, 40.0, 0.5, 2**63, 10**400, math.inf, math.nan, "", "7", "Lower", "Exact", "ok", "\ud800"),
    *([], [7], {}, {"a": 7}, {"lower": "exact"}),
)


def _places(value: object) -> list[tuple[Any, Any]]:
    """Return each container in a value with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(value, key), *_places(item)]]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:20])
def test_the_quick_reader_lets_nothing_pass_that_the_careful_one_refuses(junk: object, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    curved = replace(RECORD, curve=(CurvePoint(1, 8, 0.5, 0.9, {"f1": 0.9}, loss=1.0),), variant={"seed": 0})
    save_run(replace(RUN, records=(curved, FAILED)), path)
    lines = path.read_text().splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith('{"id": "train_step[lora')]
    count = len(_places(json.loads(lines[at].rstrip(","))))
    for place in range(count):
        for strange in (False, True):
            record = json.loads(lines[at].rstrip(","))
            container, key = _places(record)[place]
            if strange and isinstance(container, dict):
                container["strange"] = junk
            else:
                container[key] = junk
            text = "\n".join([*lines[:at], json.dumps(record) + ",", *lines[at + 1 :]]) + "\n"
            path.write_text(text)
            quick = load._stream_run(path)
            if quick is not None:
                assert quick == snapshot_of(run_from_json(json.loads(text), "f")), (key, junk)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"better": "lower"', '"better": "Lower"', r"better: expected one of lower, higher, neither, found 'Lower'"),
        ('"noise": "exact"', '"noise": "Exact"', r"noise: expected one of exact, timed, sampled, found 'Exact'"),
        ('"batch_size": 8', '"batch_size": 8, "batch_size": 9', r'"batch_size" stands twice in one object'),
        ('"value": 1000,', '"value": 1000, "value": 3000,', r'"value" stands twice in one object'),
        ('"value": 1000,', '"value": 3000, "value" : 1000,', r'"value" stands twice in one object'),
        ('"flops": {', '"flops": {"value": 3000, "unit": "FLOP"}, "flops": {', r'"flops" stands twice in one object'),
        ('"x": 0.18', '"x": 0.18, "x": 0.38', r'"x" stands twice in one object'),
        ('"aten::mm": 24', '"aten::mm": 24, "aten::mm": 25', r'"aten::mm" stands twice in one object'),
        ('"device": "cpu"', '"device": "cpu", "device": "cuda"', r'"device" stands twice in one object'),
        ('"settings": {', '"settings": {"model": "m"},\n"settings": {', r'"settings" stands twice in one object'),
        ('"reason": "boom"', '"reason": "a \\"b\\": c", "reason": "boom"', r'"reason" stands twice in one object'),
        ('"reason": "boom"', '"reason": "boom", "why": ""', r"why: is not a field"),
        ('"aten::mm": 24', f'"aten::mm": {10**400}', r"operators.aten::mm: expected a finite number"),
        ("},\n{", "},,\n{", r"not JSON at column"),
        ("}\n]", "},\n]", r"not JSON at column"),
        ("},\n{", "}\n{", r"not JSON at column"),
    ],
)
def test_what_is_not_as_we_write_it_is_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "run.json"
    save_run(RUN, path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        load_snapshot(path)
    assert len(str(caught.value).splitlines()) == 1


def test_quotes_and_backslashes_in_names_do_not_make_a_line_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = replace(RECORD, id='f["a":\\"b":\\\\]', reason='"x":\\', operators={'a\\":b': 1, "\u00e9": 2, "\\": 3})
    save_run(replace(RUN, records=(odd,)), tmp_path / "run.json")
    monkeypatch.setattr(load, "record_from_json", lambda *_: pytest.fail("the careful reader is called"))
    assert load_snapshot(tmp_path / "run.json") == snapshot_of(replace(RUN, records=(odd,)))


def test_a_run_without_records_is_read(tmp_path: Path) -> None:
    save_run(replace(RUN, records=()), tmp_path / "run.json")
    assert load_snapshot(tmp_path / "run.json").cases == {}


def test_a_baseline_is_told_by_its_schema(tmp_path: Path) -> None:
    baseline = Snapshot({"device": "cpu"}, {}, {"a": CaseSnapshot({"1": (0.25,)})}, sessions={"1": Session("s")})
    save(baseline, tmp_path / "base.json")
    assert load_snapshot(tmp_path / "base.json") == baseline


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"time_s": 0.012', '"time_s": "12"', r"launches\.0\.time_s: expected a finite number, found '12'"),
        ('"x": 0.18', '"x": NaN', r"run\.json:7: NaN is not a finite number"),
        ('"x": 0.18', '"x": 1e999', r"launches\.0\.x: expected a finite number, found inf"),
        ('"value": 1000', '"value": [1]', r"metrics\.flops\.value: expected a finite number"),
        ('"id": "z"', '"id": "train_step[ia3-nli-bs8]"', r"2 records have the id 'train_step\[ia3-nli-bs8\]'"),
        ('"status": "failed"', '"state": "failed"', r"record z: status: is missing"),
        ("peftbench/run/1", "peftbench/run/7", r"its schema is 'peftbench/run/7'.*upgrade peftbench"),
        (
            "peftbench/run/1",
            "other/1",
            r"is neither a peftbench/baseline nor a peftbench/run file: its schema is 'other/1'",
        ),
    ],
)
def test_a_bad_run_gives_one_line_that_says_where(tmp_path: Path, old: str, new: str, message: str) -> None:
    save_run(RUN, tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text()
    assert old in text
    (tmp_path / "run.json").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        load_snapshot(tmp_path / "run.json")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", ["", "[]", '{"benchmarks": []}', '"records": [\n]\n}\n', "\x00\xff"])
def test_a_foreign_file_gives_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"x\.json") as caught:
        load_snapshot(tmp_path / "x.json")
    assert len(str(caught.value).splitlines()) == 1


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(share=st.floats(0, 1))
def test_a_truncated_run_is_refused_in_one_line(share: float, tmp_path: Path) -> None:
    save_run(RUN, tmp_path / "run.json")
    whole = (tmp_path / "run.json").read_bytes().rstrip()
    (tmp_path / "run.json").write_bytes(whole[: int(share * (len(whole) - 1))])
    with pytest.raises(UserError, match=r"run\.json:\d+: ") as caught:
        load_snapshot(tmp_path / "run.json")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "launch",
    [replace(LAUNCHES[0], reference_s=-0.01), replace(LAUNCHES[0], anchor_s=-0.02), replace(LAUNCHES[0], x=1e308)],
)
def test_numbers_that_no_measurement_yields_are_refused_with_file_and_record(launch: Launch, tmp_path: Path) -> None:
    strange = replace(RECORD, launches=(launch, launch))
    save_run(replace(RUN, records=(strange,)), tmp_path / "run.json")
    with pytest.raises(UserError, match=r"run\.json: record train_step\[lora-nli-bs8\]: a number is out of range"):
        load_snapshot(tmp_path / "run.json")
