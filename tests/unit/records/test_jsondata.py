from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import pytest

from peftbench.errors import UserError
from peftbench.records.jsondata import decode, encode


@dataclass(frozen=True)
class Inner:
    n: int
    note: str = ""


@dataclass(frozen=True)
class Outer:
    colour: Literal["red", "blue"]
    inner: Inner | None = None
    parts: Mapping[str, tuple[Inner, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Switch:
    on: bool


@dataclass(frozen=True)
class Numbers:
    n: int
    either: int | float | None
    share: float | None


class Line(msgspec.Struct):
    n: int
    note: str = ""


@dataclass(frozen=True)
class Holder:
    line: Line


def test_empty_optional_fields_are_left_out_and_come_back() -> None:
    outer = Outer("red", Inner(1), {"a": (Inner(2, "x"),)})
    data = {"colour": "red", "inner": {"n": 1}, "parts": {"a": [{"n": 2, "note": "x"}]}}
    assert encode(outer) == data
    assert decode(Outer, data, "f") == outer
    assert encode(Outer("blue")) == {"colour": "blue", "parts": {}}


def test_a_zero_is_not_empty() -> None:
    assert encode(Inner(0)) == {"n": 0}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"colour": "red", "parts": {"a": [{"n": 1}, {"n": 1.5}]}},
            r"f: parts\.a\.1\.n: expected a whole number, .* 1\.5",
        ),
        ({"colour": ["red"]}, r"f: colour: expected one of red, blue, found \['red'\]"),
        ({"colour": "red", "inner": {"n": 1, "m": 2}}, r"f: inner\.m: is not a field; there are: n, note"),
        ({"colour": "red", "inner": {}}, r"f: inner\.n: is missing"),
        (None, r"f: expected an object, found None"),
    ],
)
def test_a_mismatch_names_the_way_to_it(data: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode(Outer, data, "f")


@pytest.mark.parametrize("data", [0, 1, "true", None, [True]])
def test_nothing_else_is_taken_for_true_or_false(data: object) -> None:
    assert [decode(Switch, {"on": value}, "f").on for value in (True, False)] == [True, False]
    with pytest.raises(UserError, match=r"^f: on: expected true or false, found"):
        decode(Switch, {"on": data}, "f")


@pytest.mark.parametrize("data", [1.0, True, "1", None])
def test_only_a_whole_number_is_one(data: object) -> None:
    with pytest.raises(UserError, match=r"^f: n: expected a whole number, found"):
        decode(Inner, {"n": data}, "f")


def test_a_number_is_whole_or_not_as_it_was_written_and_fits_a_float() -> None:
    assert repr(decode(Numbers, {"n": 2**60 + 1, "either": 2**60 + 1, "share": 1}, "f").either) == str(2**60 + 1)
    assert repr(decode(Numbers, {"n": 1, "either": 1.0, "share": None}, "f").either) == "1.0"
    for name in ("n", "either", "share"):
        data = {"n": 1, "either": 1, "share": 1.0, name: 10**400}
        with pytest.raises(UserError, match=rf"f: {name}: expected a finite number, found 1000"):
            decode(Numbers, data, "f")


@dataclass(frozen=True)
class Free:
    text: str = ""
    names: Mapping[str, int] = field(default_factory=dict)
    anything: Mapping[str, Any] = field(default_factory=dict)


LONG = "x" * 100_001


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"text": LONG}, r"f: text: 'x{20}'... has 100001 characters, and 100000 are allowed"),
        ({"names": {LONG: 1}}, r"f: names: 'x{20}'... has 100001 characters"),
        ({"anything": {"a": [{"b": LONG}]}}, r"f: anything\.a\.0\.b: 'x{20}'... has 100001 characters"),
        ({"anything": {"a": {LONG: 1}}}, r"f: anything\.a: 'x{20}'... has 100001 characters"),
        ({LONG: 1}, r"f: x{40}: is not a field"),
    ],
)
def test_a_text_that_nobody_can_read_is_refused_shortly(data: object, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as caught:
        decode(Free, data, "f")
    assert len(str(caught.value)) < 300
    assert decode(Free, {"text": LONG[1:], "names": {LONG[1:]: 1}}, "f").text == LONG[1:]


def test_brackets_in_brackets_are_refused_in_one_line() -> None:
    deep: object = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UserError, match=r"^f: is nested too deeply to be read$"):
        decode(Free, {"anything": {"a": deep}}, "f")


def test_a_struct_is_read_as_a_dataclass_is() -> None:
    assert decode(Holder, {"line": {"n": 1}}, "f").line == Line(1)
    assert decode(Holder, {"line": Line(1, "x")}, "f").line == Line(1, "x")
    with pytest.raises(UserError, match=r"f: line\.m: is not a field; there are: n, note"):
        decode(Holder, {"line": {"n": 1, "m": 2}}, "f")
    with pytest.raises(UserError, match=r"f: line\.n: is missing"):
        decode(Holder, {"line": {}}, "f")


def test_a_type_without_a_json_form_is_a_programming_error() -> None:
    @dataclass
    class Odd:
        value: complex

    with pytest.raises(TypeError, match="complex"):
        decode(Odd, {"value": 1}, "f")
