import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.resources import files
from inspect import signature
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from peftbench.errors import UserError
from peftbench.gate import format as format_
from peftbench.gate.compare import compare
from peftbench.gate.format import from_json, from_text, to_text
from peftbench.gate.lines import CaseLine
from peftbench.gate.snapshot import Acceptance, CaseSnapshot, Profile, Session, Snapshot
from peftbench.gate.store import load, save
from peftbench.records.jsondata import Json

SCHEMA: dict[str, Any] = json.loads(files("peftbench.gate").joinpath("baseline.schema.json").read_text())
VALID = jsonschema.Draft202012Validator(SCHEMA)

PROFILE = Profile({"aten::mm": 24, "aten::add": 7}, "ab12", {"classifier": 1538})
LORA = "train_step[lora-nli-bs8]"
BASELINE = Snapshot(
    fingerprint={"device": "cpu", "torch": "2.13.0"},
    settings={"model": "tiny", "seq_len": None},
    cases={
        LORA: CaseSnapshot(
            {"1": (0.2103, 0.2099), "2": (0.211,)}, 40, 0.0124, {"flops": 2**60 + 1, "bytecodes": 995}, PROFILE
        ),
        "attach[ia3-nli-bs8]": CaseSnapshot(time_s=0.5, counters={"flops": 0}),
    },
    references={"train_step nli-bs8-len128": {"1": (0.5, 0.51), "2": (0.52,)}},
    sessions={"1": Session("2026-01-02 elm"), "2": Session("2026-02-03 oak", 0.0012)},
    accepted=(Acceptance("2026-02-03", "abc", 2, "first", "lora", append=True),),
)


def approximate(snapshot: Snapshot) -> Snapshot:
    """Round what the file rounds."""

    def logs(values: Mapping[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        return {name: tuple(round(x, 4) for x in launches) for name, launches in values.items()}

    def case(item: CaseSnapshot) -> CaseSnapshot:
        return structs.replace(item, x=logs(item.x), time_s=item.time_s and float(f"{item.time_s:.4g}"))

    return replace(
        snapshot,
        cases={name: case(item) for name, item in sorted(snapshot.cases.items())},
        references={name: logs(values) for name, values in snapshot.references.items()},
        sessions={name: replace(item, shift=round(item.shift, 4)) for name, item in snapshot.sessions.items()},
    )


def test_the_clock_of_a_gpu_comes_back() -> None:
    clocked = replace(BASELINE, cases={LORA: structs.replace(BASELINE.cases[LORA], clock_mhz=1980.0)})
    text = to_text(clocked)
    VALID.validate(json.loads(text))
    assert approximate(from_text(text, "b.json")) == approximate(clocked)


def test_what_is_written_comes_back_and_fits_the_published_schema() -> None:
    data = json.loads(to_text(BASELINE))
    VALID.validate(data)
    assert approximate(from_json(data, "f")) == approximate(BASELINE)
    assert from_json(data, "f").cases[LORA].counters["flops"] == 2**60 + 1


def _lora_line(x: str) -> str:
    return f'"{LORA}":{{"x":{x},"n":40,"ms":12.4,"c":[995,1152921504606846977],"p":"e2a6ae7b"}}'


def test_the_text_is_made_for_a_diff() -> None:
    assert to_text(BASELINE).splitlines() == [
        "{",
        '"schema": "peftbench/baseline/2",',
        '"fingerprint": {',
        '"device":"cpu",',
        '"torch":"2.13.0"',
        "},",
        '"settings": {',
        '"model":"tiny",',
        '"seq_len":null',
        "},",
        '"counters": ["bytecodes","flops"],',
        '"sessions": {',
        '"1":{"name":"2026-01-02 elm","shift":0},',
        '"2":{"name":"2026-02-03 oak","shift":12}',
        "},",
        '"cases": {',
        '"attach[ia3-nli-bs8]":{"x":{},"n":0,"ms":500.0,"c":[null,0],"p":"d6248e12"},',
        _lora_line('{"1":[2103,2099],"2":[2110]}'),
        "},",
        '"references": {',
        '"train_step nli-bs8-len128":{"1":[5000,5100],"2":[5200]}',
        "},",
        '"profiles": {',
        '"d6248e12":{"operators":{},"modules":{}},',
        '"e2a6ae7b":{"operators":{"aten::add":7,"aten::mm":24},"operator_hash":"ab12","modules":{"classifier":1538}}',
        "},",
        '"accepted": [',
        '{"date":"2026-02-03","commit":"abc","cases":2,"why":"first","keyword":"lora","append":true}',
        "]",
        "}",
    ]


def test_another_session_moves_nothing_but_the_lines_of_its_cases() -> None:
    cases = dict(BASELINE.cases)
    cases[LORA] = structs.replace(cases[LORA], x={**cases[LORA].x, "10": (0.212,)})
    grown = replace(BASELINE, cases=cases, sessions={**BASELINE.sessions, "10": Session("2026-03-04 fir")})
    before, after = to_text(BASELINE).splitlines(), to_text(grown).splitlines()
    assert [line for line in after if line not in before] == [
        '"2":{"name":"2026-02-03 oak","shift":12},',
        '"10":{"name":"2026-03-04 fir","shift":0}',
        _lora_line('{"1":[2103,2099],"2":[2110],"10":[2120]}'),
    ]
    assert list(from_json(json.loads(to_text(grown)), "f").sessions) == ["1", "2", "10"]


def test_a_full_line_of_a_large_model_has_at_most_400_bytes() -> None:
    # XLM-R large on CUDA, batch size 32: allocations, bytecodes, bytes of the checkpoint, FLOPs, bytes of gradients,
    # operator calls, bytes of the optimizer, peak, peak of live storages, Python calls, bytes saved, parameters (total,
    # body, head), bytes of weights
    digits = (5, 6, 8, 14, 7, 5, 8, 11, 11, 5, 11, 9, 7, 7, 10)
    counters = {f"counter {i}": 10**n - 1 for i, n in enumerate(digits)}
    x = {str(10 + s): (-0.2345,) * 5 for s in range(4)}
    case = CaseSnapshot(x, 400, 1.2345, counters, PROFILE)
    name = "train_step[lora(target_modules=all-linear)-paraphrase-bs32]"
    snapshot = replace(
        BASELINE, cases={name: case}, sessions={str(10 + s): Session("s") for s in range(4)}, references={}
    )
    line = next(line for line in to_text(snapshot).splitlines() if line.startswith('"train_step'))
    assert 300 < len(line.encode()) <= 400


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", format_._File),
        ("session", format_._SessionLine),
        ("case", CaseLine),
        ("profile", Profile),
        ("acceptance", Acceptance),
    ],
)
def test_schema_and_dataclass_have_the_same_fields(name: str, kind: type) -> None:
    schema = SCHEMA["$defs"][name] if name else SCHEMA
    assert set(schema["properties"]) - {"schema"} == set(signature(kind).parameters)


def _edited(*path: str, value: object) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(to_text(BASELINE))
    at: Any = data
    for name in path[:-1]:
        at = at[name]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return data


CASE = r"^f: case train_step\[lora-nli-bs8\]: "
FIELD = r"^f: cases\.train_step\[lora-nli-bs8\]\."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_edited("cases", LORA, "x", "1", value=[0.21]), FIELD + r"x\.1\.0: expected a whole number, found 0\.21"),
        (_edited("cases", LORA, "x", "1", value=["2103"]), FIELD + r"x\.1\.0: expected a whole number, found '2103'"),
        (_edited("cases", LORA, "x", value=[1, 2]), FIELD + r"x: expected an object"),
        (_edited("cases", LORA, "x", "3", value=[1]), CASE + "its session '3' is not among the sessions"),
        (_edited("cases", LORA, "n", value=None), FIELD + "n: expected a whole number, found None"),
        (_edited("cases", LORA, "ms", value="12"), FIELD + "ms: expected a finite number, found '12'"),
        (_edited("cases", LORA, "ms", value=...), FIELD + "ms: is missing"),
        (_edited("cases", LORA, "c", value=[1]), CASE + "has 1 counters, and 2 are named"),
        (_edited("cases", LORA, "c", value=[1, "2"]), FIELD + r"c\.1: expected a finite number, found '2'"),
        (_edited("cases", LORA, "p", value="0"), CASE + "its profile '0' is not among the profiles"),
        (_edited("cases", LORA, "host", value="vm7"), FIELD + "host: is not a field"),
        (_edited("cases", LORA, value=None), r"^f: cases\.train_step\[lora-nli-bs8\]: expected an object, found None"),
        (_edited("cases", value=[]), r"^f: cases: expected an object"),
        (_edited("sessions", "1", value=...), r"^f: case train_step\[lora-nli-bs8\]: its session '1' is not among"),
        (_edited("references", "r", value={"9": [1]}), r"^f: reference r: its session '9' is not among"),
        (_edited("references", "r", value={"1": [None]}), r"^f: references\.r\.1\.0: expected a whole number"),
        (
            _edited("schema", value="peftbench/baseline/3"),
            r"^f: its schema is 'peftbench/baseline/3'.*; upgrade peftbench",
        ),
        (_edited("schema", value="peftbench/run/1"), r"^f: is no peftbench/baseline file: .*; is it the right file\?"),
        (_edited("counters", value=...), r"^f: counters: is missing"),
        (_edited("accepted", value=[{"date": "d"}]), r"^f: accepted\.0\.cases: is missing"),
        ({"benchmarks": []}, r"^f: is no peftbench/baseline file: it has no schema"),
    ],
)
def test_a_bad_baseline_gives_one_line_that_says_where(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        from_json(data, "f")
    assert "\n" not in str(caught.value)


def test_an_older_file_is_brought_up_to_date_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def older(data: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in data.items() if name != "hosts"}

    monkeypatch.setattr(format_, "SCHEMA", "peftbench/baseline/3")
    monkeypatch.setattr(format_, "MIGRATIONS", {**format_.MIGRATIONS, 2: older})
    data = json.loads(to_text(BASELINE)) | {"schema": "peftbench/baseline/2", "hosts": []}
    assert approximate(from_json(copy.deepcopy(data), "f")) == approximate(BASELINE)


def test_a_file_of_version_1_loses_nothing_and_its_checkpoints_are_compared_as_sums() -> None:
    old = structs.replace(BASELINE.cases[LORA], counters={"flops": 1000, "checkpoint_bytes": 41880})
    first = replace(BASELINE, cases={LORA: old})
    text = to_text(first).replace("peftbench/baseline/2", "peftbench/baseline/1")
    found = from_text(text, "b.json")
    assert approximate(found) == approximate(first)
    parts = {"flops": 1000, "checkpoint_tensor_bytes": 40000, "checkpoint_other_bytes": 1880}
    new = replace(found, cases={LORA: structs.replace(found.cases[LORA], counters=parts)})
    (case,) = compare(found, new).cases
    assert (case.counters, {*case.same_counters}) == ((), {"flops", "checkpoint_bytes"})
    assert "not measured" not in case.reason
    assert to_text(found).startswith('{\n"schema": "peftbench/baseline/2"')


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"ms":12.4', '"ms":NaN', r"b\.json:18: NaN is not a finite number; restore it \(git checkout .*b\.json\)"),
        (
            '"attach[ia3-nli-bs8]"',
            '"train_step[lora-nli-bs8]"',
            r'b\.json:18: "train_step.* stands twice in one object',
        ),
        (
            '"ms":12.4',
            '"ms":1e999',
            r"b\.json: cases\.train_step\[lora-nli-bs8\]\.ms: expected a finite number, found inf",
        ),
        ('"n":40,', '"n":40,,', r"b\.json:18: not JSON at column \d+"),
        (
            "2103",
            "9" * 400,
            r"b\.json: cases\.train_step\[lora-nli-bs8\]\.x\.1\.0: expected a finite number, found 9999",
        ),
    ],
)
def test_a_hand_edited_file_gives_one_line_that_says_where(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "b.json").write_text(to_text(BASELINE).replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "b.json")
    assert "\n" not in str(caught.value)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(share=st.floats(0, 1))
def test_a_truncated_baseline_is_refused_in_one_line(share: float, tmp_path: Path) -> None:
    save(BASELINE, tmp_path / "b.json")
    whole = (tmp_path / "b.json").read_bytes().rstrip()
    (tmp_path / "b.json").write_bytes(whole[: int(share * (len(whole) - 1))])
    with pytest.raises(UserError, match=r"b\.json:\d+: ") as caught:
        load(tmp_path / "b.json")
    assert len(str(caught.value).splitlines()) == 1


def _paths(data: Json, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(deeper for name, item in children for deeper in _paths(item, (*path, name)))]


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=80)
@given(data=st.data(), junk=garbage)
def test_garbage_anywhere_is_read_or_refused_in_one_line(data: st.DataObject, junk: Json) -> None:
    whole: Any = json.loads(to_text(BASELINE))
    path = data.draw(st.sampled_from(_paths(whole)))
    at = whole
    for name in path[:-1]:
        at = at[name]
    if path:
        at[path[-1]] = junk
    try:
        from_json(whole if path else junk, "f")
    except UserError as error:
        assert str(error).startswith("f: ")  # noqa: PT017 - some garbage is as good as what was there
        assert len(str(error).splitlines()) == 1  # noqa: PT017


JUNK: tuple[Json, ...] = (
    None,
    True,
    7,
    -1,
    40.0,
    0.5,
    2**63,
    10**400,
    math.inf,
    math.nan,
    "",
    "7",
    "\ud800",
    [],
    [7],
    {},
    {"1": [7]},
)


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:20])
def test_the_quick_reader_lets_nothing_pass_that_the_careful_one_refuses(junk: Json) -> None:
    whole: Any = json.loads(to_text(BASELINE))
    for *way, last in _paths(whole["cases"])[1:]:
        for name in (last, "strange"):
            edited = copy.deepcopy(whole)
            at = edited["cases"]
            for step in way:
                at = at[step]
            if isinstance(at, dict) or name == last:
                at[name] = junk
            text = json.dumps(edited, separators=(",", ":"))
            assert _read(from_text, text) == _read(from_json, edited), (*way, name)


def test_what_we_write_is_read_quickly() -> None:
    assert format_._quick(to_text(BASELINE), "f") is not None


def _read(reader: Callable[[Any, str], Snapshot], content: object) -> Snapshot | None:
    try:
        return reader(content, "f")
    except UserError:
        return None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"shift":0}', '"shift":0,"shift":0}'),
        ('"device":"cpu"', '"device":"cpu","device":"cuda"'),
        ('"aten::add":7', '"aten::add":7,"aten::add":8'),
        ('"n":40', '"n":40,"n":41'),
        ('"n":40', '"n" :40,"n":41'),
        ('"cases": {', '"cases": {},\n"cases": {'),
        ('"settings": {', '"settings": {},\n"settings": {'),
    ],
)
def test_a_name_that_stands_twice_is_refused_in_cases_and_outside(old: str, new: str) -> None:
    with pytest.raises(UserError, match=r'^f:\d+: "[a-z:]+" stands twice in one object'):
        from_text(to_text(BASELINE).replace(old, new, 1), "f")


def test_what_could_not_be_read_back_is_not_written() -> None:
    bad = replace(BASELINE, cases={"a": CaseSnapshot({"1": (float("nan"),)})})
    with pytest.raises(UserError, match="not a finite number"):
        to_text(bad)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "[2103,2099]",
            "[2103,-7000001]",
            r"case train_step\[lora-nli-bs8\]: the logarithm of a launch's ratio is out of",
        ),
        ("[2103,2099]", "[2103,10000000000000000000000]", r"case train_step\[lora-nli-bs8\]: the logarithm"),
        ("[5000,5100]", "[5000,7000001]", r"reference train_step nli-bs8-len128: a logarithm is out of range"),
        ('"shift":12', '"shift":7000001', r"sessions: a shift is out of range"),
    ],
)
@pytest.mark.parametrize("read", [from_text, lambda text, source: from_json(json.loads(text), source)])
def test_ratios_that_exp_cannot_hold_are_refused(
    old: str, new: str, said: str, read: Callable[[str, str], Snapshot]
) -> None:
    text = to_text(BASELINE)
    assert old in text
    with pytest.raises(UserError, match=rf"^f: {said}"):
        read(text.replace(old, new, 1), "f")
