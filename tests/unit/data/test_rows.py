import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftbench.data.rows import class_names, read_rows
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


@pytest.mark.parametrize("more", ["", ' "version": "1.1",'])
def test_an_object_that_holds_the_rows(tmp_path: Path, more: str) -> None:
    rows = ",\n".join(map(json.dumps, ROWS))
    path = written(tmp_path / "train.json", f'{{{more} "data": [\n{rows}\n],\n"end": {{"data": [[]]}}}}\n')
    assert list(read_rows(path)) == [("line 2", ROWS[0]), ("line 3", ROWS[1]), ("line 4", ROWS[2])]
    path = written(tmp_path / "one.json", json.dumps({"data": ROWS}))
    assert list(read_rows(path)) == [("line 1", row) for row in ROWS]


def test_values_of_several_lines_each(tmp_path: Path) -> None:
    path = written(tmp_path / "train.json", "\n" + "\n".join(json.dumps(row, indent=1) for row in ROWS))
    assert list(read_rows(path)) == [("line 2", ROWS[0]), ("line 6", ROWS[1]), ("line 10", ROWS[2])]
    path = written(tmp_path / "one.json", json.dumps(ROWS[0], indent=1))
    assert list(read_rows(path)) == [("line 1", ROWS[0])]
    assert "line 3: no valid JSON" in error_of(written(path, '{"a":\n 1}\n{"a": \x00}'))
    assert "line 2: no valid JSON" in error_of(written(path, '{"data":\n [1 2]}'))


def test_a_cell_of_any_length(tmp_path: Path) -> None:
    long, limit = "queen " * 30_000, csv.field_size_limit()
    path = written(tmp_path / "train.csv", f'text,label\n"{long}",1\n')
    assert list(read_rows(path)) == [("line 2", {"text": long, "label": "1"})]
    assert csv.field_size_limit() == limit
    assert "line 2: no valid CSV" in error_of(written(path, f'text,label\n"{long}'))
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_files_that_are_packed(tmp_path: Path, ending: str) -> None:
    import datasets

    plain = tmp_path / f"train.{ending}"
    if ending == "parquet":
        datasets.Dataset.from_list(ROWS).to_parquet(str(plain))
    elif ending == "csv":
        written(plain, "text,label\na,0\nb,1\n")
    else:
        written(plain, "\n".join(map(json.dumps, ROWS)))
    packed = written(tmp_path / f"train.{ending}.gz", gzip.compress(plain.read_bytes()))
    assert list(read_rows(packed)) == list(read_rows(plain))
    assert str(packed) in error_of(written(packed, packed.read_bytes()[:-20]))
    assert str(packed) in error_of(written(packed, b"no gzip"))


def test_ids_of_classes_are_read_through_the_names_that_the_file_carries(tmp_path: Path) -> None:
    import datasets

    names = ["O", "B-PER", "B-LOC", "I-PER", "I-LOC"]
    label = datasets.ClassLabel(names=["no", "yes"])
    tags = datasets.List(datasets.ClassLabel(names=names))
    features = datasets.Features({"ner_tags": tags, "label": label, "id": datasets.Value("int64")})
    path = tmp_path / "train.parquet"
    rows = [{"ner_tags": [1, 3, 0, 2, 4], "label": 1, "id": 1}, {"ner_tags": [], "label": None, "id": 0}]
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(path))
    assert class_names(path) == {"ner_tags": tuple(names), "label": ("no", "yes")}
    assert [row for _, row in read_rows(path)] == [
        {"ner_tags": ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"], "label": "yes", "id": 1},
        {"ner_tags": [], "label": None, "id": 0},
    ]


def test_a_file_of_another_program_carries_no_names(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    path = tmp_path / "train.parquet"
    for metadata in (None, {}, {"huggingface": "no JSON"}, {"huggingface": '{"info": 3}'}):
        parquet.write_table(table({"label": [1, -1]}).replace_schema_metadata(metadata), path)
        assert class_names(path) == {}
        assert [row for _, row in read_rows(path)] == [{"label": 1}, {"label": -1}]


def test_words_that_are_kept_as_categories_are_words(tmp_path: Path) -> None:
    from pyarrow import array, parquet, table

    path = tmp_path / "train.parquet"
    parquet.write_table(table({"label": array(["b", "a", "b"]).dictionary_encode()}), path)
    assert [row for _, row in read_rows(path)] == [{"label": "b"}, {"label": "a"}, {"label": "b"}]


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
