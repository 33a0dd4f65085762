from __future__ import annotations

from pathlib import Path

import pytest

from peftbench.cli import main
from peftbench.config.places import folder_of, is_path
from peftbench.config.settings import Settings
from peftbench.data.sources import HUB, Source, parse_source
from peftbench.matrix.ambiguity import ambiguities, of_model
from peftbench.matrix.catalogue import Catalogue
from peftbench.models.presets import resolve
from peftbench.studies.training.task_data import _named

CATALOGUE = Catalogue.load()
NLI = CATALOGUE.task("nli")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said(**settings: object) -> list[str]:
    return list(ambiguities(Settings(**settings), CATALOGUE.models, [NLI]))  # type: ignore[arg-type]


def made(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")


def test_a_preset_wins_over_a_folder_of_its_name_and_both_are_told() -> None:
    assert said(model="tiny") == []
    made("tiny/config.json")
    assert said(model="tiny") == [
        "--peftbench-model=tiny is the preset, not the folder of this name; for the folder write ./tiny"
    ]
    assert resolve("tiny", CATALOGUE.models).preset is not None
    assert list(of_model("./tiny", CATALOGUE.models)) == said(model="./tiny") == said(model="auto") == []


def test_words_for_data_win_over_folders_of_their_names() -> None:
    made("hub/nli/train.jsonl", "synthetic/nli/train.jsonl")
    assert parse_source("hub") == HUB
    for word in ("hub", "synthetic"):
        (line,) = said(data=word)
        assert line.endswith(f"not the folder of this name; for the folder write ./{word}")
        assert said(data=f"./{word}") == []
    assert parse_source("./hub").folder == Path("hub")


def test_a_split_wins_over_a_folder_of_its_name() -> None:
    made("data/nli/train.jsonl", "data/nli/test.jsonl", "test/readme.txt")
    source = Source("folder", Path("data"))
    assert _named(source, NLI, "test") == (source, "test")
    assert said(data="data", test_data=("test",)) == []  # the folder of the tests holds no data
    made("test/nli/test.jsonl", "other/nli/test.jsonl")
    assert said(data="data", test_data=("test", "other", "./test")) == [
        "--peftbench-test-data=test is the split, not the folder of this name; for the folder write ./test"
    ]
    assert _named(source, NLI, "test") == (source, "test")
    assert _named(source, NLI, "./test") == (Source("folder", Path("test")), "test")
    assert _named(source, NLI, "other") == (Source("folder", Path("other")), "test")
    assert _named(source, NLI, "test.hi") == (source, "test.hi")
    assert _named(HUB, NLI, "other") == (Source("folder", Path("other")), "test")


def test_what_is_no_folder() -> None:
    for text in ("x" * 300, "a\0b", "~nobody-is-called-so/x", "none"):
        assert folder_of(text) is None
    assert folder_of(".") == Path()
    assert [is_path(text) for text in ("tiny", "test.hi", "./tiny", "a/b", "~", "..")] == [False, False, *[True] * 4]


def test_the_list_of_methods_tells_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    made("tiny/config.json")
    assert main(["list", "methods", "--no-parameters", "--model=tiny"]) == 0
    found = capsys.readouterr().err.splitlines()
    assert found == ["--model=tiny is the preset, not the folder of this name; for the folder write ./tiny"]
