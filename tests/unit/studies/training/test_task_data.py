"""The splits of a task: each is read before the first training, and a test set is a split or a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from peftbench.data import sources
from peftbench.errors import UserError
from peftbench.studies.training import task_data
from peftbench.studies.training.task_data import TaskData, check
from peftbench.workloads.base import Workbench

OpenBench = Callable[..., Workbench]


def names(bench: Workbench, task: str = "nli") -> list[tuple[str, int]]:
    return [(test.name, len(test.features)) for test in TaskData.load(bench.backend, task).tests]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `test.xx`, which is also a split of the data, with a set of two rows."""
    file = tmp_path / "test.xx" / "nli" / "test.jsonl"
    file.parent.mkdir(parents=True)
    rows = [{"premise": "the queen", "hypothesis": "tarts", "label": label} for label in (0, 1)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "test.xx"


def test_a_test_set_is_a_split_and_a_path_is_a_folder(
    open_bench: OpenBench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert names(open_bench(test_data=("test.xx",))) == [("test.xx", 12)]
    assert names(open_bench(test_data=("./test.xx", str(folder)))) == [("./test.xx", 2), (str(folder), 2)]
    folder.rename(folder.with_name("other"))
    assert names(open_bench(test_data=("other", "test.yy"))) == [("other", 2)]
    assert names(open_bench(test_data=("other",)), "ner") == []


def test_rows_of_training_and_of_evaluation_are_limited_apart(open_bench: OpenBench) -> None:
    found = TaskData.load(open_bench(train_rows=7, eval_rows=5, test_data=("test.xx",)).backend, "nli")
    assert (len(found.train), len(found.validation.features), len(found.tests[0].features)) == (7, 5, 5)


def test_every_split_is_read_before_the_first_training(open_bench: OpenBench, tiny_data: Path, tmp_path: Path) -> None:
    check(open_bench(test_data=("test.xx",)).backend, ["nli", "ner"])
    shutil.copytree(tiny_data, tmp_path / "data")
    bench = open_bench(data=str(tmp_path / "data"), test_data=("test.xx",))
    for split in ("train", "validation", "test.xx"):
        file = tmp_path / "data" / "ner" / f"{split}.jsonl"
        sound = file.read_text()
        file.write_text(sound.replace("ner_tags", "tags", 1))
        with pytest.raises(UserError, match=f"{split}.jsonl"):
            check(bench.backend, ["nli", "ner"])
        file.write_text(sound)


def test_what_cannot_be_trained_on_is_refused_in_one_line(open_bench: OpenBench) -> None:
    with pytest.raises(UserError, match=r"^--peftbench-test-data=test\.zz: no such set for nli, ner$"):
        check(open_bench(test_data=("test.xx", "test.zz")).backend, ["nli", "ner"])
    with pytest.raises(UserError, match="unknown metric of task 'ner'"):
        check(open_bench(metric="accuracy").backend, ["nli", "ner"])
    backend = open_bench().backend
    with pytest.raises(UserError, match="synthetic labels are random: give --peftbench-data"):
        check(replace(backend, data=sources.SYNTHETIC), ["nli"])
    with pytest.raises(UserError, match="those of preset 'tiny' are random"):
        check(open_bench(model="tiny", data="synthetic").backend, ["nli"])
    with pytest.raises(ValueError, match="refuses synthetic data"):
        task_data._tokenizer(replace(backend, tokenizer=None))
