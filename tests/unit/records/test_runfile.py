import json
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.records import a_record

from peftbench.errors import UserError
from peftbench.records.record import (
    KernelTime,
    Launch,
    LoadPoint,
    Metric,
    OperatorShare,
    Record,
    Run,
    record_from_json,
    record_to_json,
)
from peftbench.records.runfile import load_run, run_from_json, save_run

SCHEMA: dict[str, Any] = json.loads(files("peftbench.records").joinpath("run.schema.json").read_text())
VALID = jsonschema.Draft202012Validator(SCHEMA)

text = st.text(max_size=5)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers()
maybe = st.none() | numbers
metrics = st.builds(Metric, value=maybe, unit=text, low=maybe, high=maybe, reason=text)
launches = st.builds(Launch, session=text, time_s=numbers, reference_s=maybe, x=maybe, anchor_s=maybe)
loads = st.builds(
    LoadPoint,
    offered_per_s=numbers,
    achieved_per_s=numbers,
    lot_size=numbers,
    longest_s=maybe,
    p50_s=maybe,
    p95_s=maybe,
    p99_s=maybe,
)
records = st.builds(
    Record,
    id=text,
    metrics=st.dictionaries(text, metrics, max_size=2),
    launches=st.lists(launches, max_size=2).map(tuple),
    operators=st.dictionaries(text, st.integers(), max_size=2),
    modules=st.just({}),
    quantiles_s=st.lists(numbers, max_size=2).map(tuple),
    loads=st.none() | st.lists(loads, max_size=2).map(tuple),
    warnings=st.lists(text, max_size=2).map(tuple),
    longest_kernels=st.none() | st.lists(st.builds(KernelTime, time_s=numbers), max_size=2).map(tuple),
    longest_operators=st.none() | st.lists(st.builds(OperatorShare, share=numbers), max_size=2).map(tuple),
    timeline=st.none() | st.just({"t_s": (0.0, 0.5), "power_w": (99.5, 300.0)}),
)
runs = st.builds(
    Run,
    fingerprint=st.dictionaries(text, text, max_size=2),
    settings=st.dictionaries(text, text | numbers | st.booleans(), max_size=2),
    records=st.lists(records, max_size=3, unique_by=lambda record: record.id).map(tuple),
    notes=st.just({}),
)

RECORD = a_record(
    seq_len=128,
    metrics={"flops": Metric(2**60 + 1, "FLOP"), "energy_j": Metric(None, "J", reason="no NVML on a CPU")},
    launches=(Launch(session="2026-01-02-elm", rounds=40, time_s=0.01, reference_s=0.008, x=0.22),),
    operators={"aten::mm": 24},
)
RUN = Run(fingerprint={"device": "cpu"}, settings={"model": "tiny"}, records=(RECORD,))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(run=runs)
def test_what_is_saved_fits_the_published_schema_and_comes_back_equal(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    save_run(run, path)
    VALID.validate(json.loads(path.read_text()))
    VALID.validate(json.loads(json.dumps(run.to_json())))
    assert load_run(path) == run
    assert [record_from_json(record_to_json(record)) for record in run.records] == list(run.records)


@pytest.mark.parametrize(
    ("name", "kind"), [("record", Record), ("metric", Metric), ("launch", Launch), ("load", LoadPoint), ("", Run)]
)
def test_schema_and_dataclass_have_the_same_fields(name: str, kind: type) -> None:
    schema = SCHEMA["$defs"][name] if name else SCHEMA
    expected = {field.name for field in fields(kind)} | ({"schema"} if kind is Run else set())
    assert set(schema["properties"]) == expected


def test_a_record_is_one_line_and_counts_stay_exact(tmp_path: Path) -> None:
    save_run(replace(RUN, records=(RECORD, replace(RECORD, id="other"))), tmp_path / "run.json")
    lines = (tmp_path / "run.json").read_text().splitlines()
    assert sum('"id": ' in line for line in lines) == 2
    assert load_run(tmp_path / "run.json").records[0].metrics["flops"].value == 2**60 + 1


def _edited(**changes: object) -> dict[str, Any]:
    data = RUN.to_json()
    record = json.loads(json.dumps(data["records"][0])) | changes
    return data | {"records": [{name: value for name, value in record.items() if value is not ...}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_edited(seq_len="128"), r"seq_len: expected a whole number, found '128'"),
        (_edited(batch_size=True), r"batch_size: expected a whole number, found True"),
        (_edited(status="fine"), r"status: expected one of ok, unsupported, out-of-memory, invalid, failed, found"),
        (_edited(task=...), r"task: is missing"),
        (_edited(colour="red"), r"colour: is not a field; there are: id, workload"),
        (_edited(metrics={"flops": {"value": 1}}), r"metrics\.flops\.unit: is missing"),
        (_edited(metrics={"flops": {"value": "x", "unit": "1"}}), r"metrics\.flops\.value: expected a finite number"),
        (_edited(quantiles_s=[0.1, None]), r"quantiles_s\.1: expected a finite number, found None"),
        (_edited(launches=7), r"launches: expected a list, found 7"),
        (_edited(operators=[]), r"operators: expected an object, found \[\]"),
    ],
)
def test_a_bad_record_is_refused_by_the_reader_and_by_the_schema(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=r"^f: record train_step\[lora-nli-bs8\]: " + message):
        run_from_json(data, "f")
    assert not VALID.is_valid(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"f: is no peftbench/run file: it has no schema; is it the right file\?"),
        ({"benchmarks": []}, r"f: is no peftbench/run file: it has no schema"),
        ({"schema": "peftbench/baseline/1"}, r"its schema is 'peftbench/baseline/1'; is it the right file\?"),
        ({"schema": "peftbench/run/2"}, r"its schema is 'peftbench/run/2', .* reads peftbench/run/1; upgrade"),
        ({"schema": "peftbench/run/1"}, r"f: (fingerprint|records|settings): is missing"),
        (RUN.to_json() | {"records": {}}, r"f: records: expected a list, found \{\}"),
        (RUN.to_json() | {"records": [7]}, r"f: record \?: expected an object, found 7"),
        (RUN.to_json() | {"records": RUN.to_json()["records"] * 2}, r"f: 2 records have the id 'train_step\[lora"),
    ],
)
def test_a_foreign_file_is_refused(data: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_from_json(data, "f")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (replace(RUN, records=(RECORD, RECORD)), "2 records have the id"),
        (
            replace(RUN, records=(replace(RECORD, metrics={"a": Metric(float("nan"), "s")}),)),
            r"record train_step\[lora",
        ),
        (replace(RUN, settings={"model": object()}), "settings has no JSON form"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, run: Run, message: str) -> None:
    with pytest.raises(UserError, match=message):
        save_run(run, tmp_path / "run.json")
    assert list(tmp_path.iterdir()) == []


@given(share=st.floats(0, 1))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_truncated_run_is_refused_in_one_line(share: float, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    save_run(RUN, path)
    whole = path.read_bytes().rstrip()
    path.write_bytes(whole[: int(share * (len(whole) - 1))])
    with pytest.raises(UserError, match=r"run\.json:\d+: the file (ends too early|is empty)|not JSON") as caught:
        load_run(path)
    assert len(str(caught.value).splitlines()) == 1
