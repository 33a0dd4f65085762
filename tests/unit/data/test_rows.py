import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftbench.data.rows import read_rows
from peftbench.errors import UserError

ROWS: list[dict[str, Any]] = [
    {"text": "NA", "label": 0},
    {"text": "2010", "label": 1},
    {"text": "a \u2028 b,\nqueen", "label": 1},
]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def error_of(path: Path) -> str:
    with pytest.raises(UserError) as error:
        list(read_rows(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_lines_of_json(tmp_path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    for name in ("train.jsonl", "train.json"):
        path = written(tmp_path / name, "\ufeff" + lines[0] + "\r\n\n  \n" + lines[1] + "\n" + lines[2])
        assert list(read_rows(path)) == [("line 1", ROWS[0]), ("line 4", ROWS[1]), ("line 5", ROWS[2])]


@pytest.mark.parametrize(("indent", "places"), [(None, ("line 1",) * 3), (2, ("line 2", "line 6", "line 10"))])
def test_an_array_of_json(tmp_path: Path, indent: int | None, places: tuple[str, ...]) -> None:
    path = written(tmp_path / "train.json", json.dumps(ROWS, indent=indent))
    assert list(read_rows(path)) == list(zip(places, ROWS, strict=True))
    assert list(read_rows(written(path, "\n[ ]\n"))) == []
    assert list(read_rows(written(path, "[[1],\n[2]]"))) == [("line 1", [1]), ("line 2", [2])]


def test_csv_keeps_texts_as_they_are(tmp_path: Path) -> None:
    path = written(tmp_path / "train.csv", 'text,label\nNA,0\n2010,1\n"a \u2028 b,\nqueen",1\n')
    assert list(read_rows(path)) == [
        ("line 2", {"text": "NA", "label": "0"}),
        ("line 3", {"text": "2010", "label": "1"}),
        ("line 5", {"text": "a \u2028 b,\nqueen", "label": "1"}),
    ]


def test_parquet_in_a_folder_whose_name_is_a_pattern(tmp_path: Path) -> None:
    import datasets

    folder = tmp_path / "a[b]*"
    folder.mkdir()
    path = folder / "train.parquet"
    path.write_bytes(b"")
    datasets.Dataset.from_list(ROWS).to_parquet(str(path))
    assert list(read_rows(path)) == [("row 1", ROWS[0]), ("row 2", ROWS[1]), ("row 3", ROWS[2])]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '{"a": 1}\n\n{"a": \n', "line 3: no valid JSON: Expecting value"),
        ("t.jsonl", '{"a": 1} {"a": 2}\n', "line 1: no valid JSON: Extra data"),
        ("t.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', "line 2: no valid UTF-8"),
        ("t.jsonl", "[" * 100_000, "line 1: no valid JSON"),
        ("t.jsonl", "1" * 5_000, "line 1: no valid JSON"),
        ("t.json", '[{"a": 1},\n{"a" 2}]', "line 2: no valid JSON: Expecting ':'"),
        ("t.json", '[{"a": 1}\n{"a": 2}]', "line 2: no valid JSON: Expecting ','"),
        ("t.json", '[{"a": 1},\n', "line 2: no valid JSON"),
        ("t.json", b'[\n\n"\xff"]', "line 3: no valid UTF-8"),
        ("t.csv", 'a,b\n1,"2\n', "line 2: no valid CSV: unexpected end of data"),
        ("t.csv", b"a,b\n1,\xff\n", "line 2: no valid UTF-8"),
        ("t.parquet", "PAR1 no parquet", "is no parquet file that can be read"),
    ],
)
def test_a_broken_file_names_the_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = written(tmp_path / name, content)
    assert message in error_of(path)
    assert error_of(path).startswith(str(path))


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    assert "No such file or directory" in error_of(tmp_path / "none.jsonl")
    (tmp_path / "folder.csv").mkdir()
    assert "Is a directory" in error_of(tmp_path / "folder.csv")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    elements=st.lists(values, max_size=6),
    indent=st.sampled_from([None, 0, 3]),
)
def test_places_in_an_array_are_the_lines_of_its_elements(
    tmp_path_factory: pytest.TempPathFactory, elements: list[Any], indent: int | None
) -> None:
    text = json.dumps(elements, indent=indent)
    path = written(tmp_path_factory.mktemp("array") / "t.json", text)
    found = list(read_rows(path))
    assert [json.dumps(value) for _, value in found] == [json.dumps(element) for element in elements]
    lines = text.splitlines()
    for place, value in found:
        line = lines[int(place.removeprefix("line ")) - 1].strip()
        assert json.dumps(value, indent=indent).splitlines()[0].strip() in line
