"""Source -> rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

from peftbench.config.places import folder_of
from peftbench.data.columns import ClassNames, named, names_in
from peftbench.data.jsonrows import Place
from peftbench.data.rows import COMPRESSED, ENDINGS, READERS, class_names, read_rows
from peftbench.errors import UserError, shown
from peftbench.libraries import reason
from peftbench.tasks.base import HubSource, Row, Task

MAX_FOUND: Final = 10
"""Names that an error lists of what a folder has instead."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where examples come from."""

    kind: Literal["synthetic", "folder", "hub"]
    folder: Path | None = None
    """Holds `<task>/<split>.{jsonl,json,csv,parquet}`, each packed with gzip (`.jsonl.gz`) or not."""


WORDS: Final = ("synthetic", "hub")
"""Sources that are no folders."""
SYNTHETIC: Final = Source("synthetic")
HUB: Final = Source("hub")


def parse_source(text: str) -> Source:
    """Read `synthetic`, `hub`, or the path of a folder.

    Raises:
        UserError: there is no such folder.
    """
    if text in WORDS:
        return SYNTHETIC if text == "synthetic" else HUB
    if (folder := folder_of(text)) is None:
        raise UserError(
            f"no data in {shown(text)}: give synthetic, hub, or an existing folder with {_expected('<task>')}"
        )
    return Source("folder", folder)


def check_source(source: Source, task: Task, split: str = "train") -> None:
    """Raise UserError where a folder has no file for the task and split, or the hub no data; nothing is read."""
    if source.folder:
        _data_file(source.folder, task.name, split)
    elif source.kind == "hub":
        _on_hub(task)


def has_split(source: Source, task: Task, split: str) -> bool:
    """Tell whether there is such a split of the task; on the hub it is found out by loading it."""
    if source.folder is None:
        return source.kind == "hub" and task.hub is not None
    return any((source.folder / task.name / f"{split}.{ending}").is_file() for ending in ENDINGS)


def fitted_task(source: Source, task: Task) -> Task:
    """Return the task with the classes of its training data: those that the file names, else those of its rows.

    Raises:
        UserError: there is no training data, or it cannot be read, or the task cannot have such classes.
    """
    if source.kind == "synthetic":
        return task
    names = _class_names(source, task, "train")
    fields = [field for field in task.fields if field in names] if task.labels else []
    if fields:
        try:
            return task.named(names[fields[-1]])
        except UserError as error:
            raise UserError(f"{origin(source, task, 'train')}, {fields[-1]}: {error}") from None
    return task.fitted(row for _, row in _raw_rows(source, task, "train") if isinstance(row, Mapping))


def load_rows(source: Source, task: Task, split: str = "train", limit: int | None = None) -> list[Row]:
    """Return the rows of a split, or its first `limit`, each of them checked.

    Raises:
        UserError: there is no such data, it has no row, or a row lacks a field or holds a wrong one; says where.
    """
    if source.kind == "synthetic":
        raise ValueError("synthetic examples are made without rows")
    where = origin(source, task, split)
    rows: list[Row] = []
    for place, row in islice(_raw_rows(source, task, split), limit):
        if not isinstance(row, Mapping):
            raise UserError(f"{where}, {place}: must be an object, not {type(row).__name__}")
        if problem := task.problem(row):
            raise UserError(f"{where}, {place}: {problem}")
        rows.append(row)
    if not rows:
        raise UserError(f"{where} has no rows")
    return rows


def place_of(source: Source, task: Task, split: str, number: int) -> str:
    """Return where the row is that `load_rows` returns at an index: file or data set, and line or row."""
    place, _ = next(islice(_raw_rows(source, task, split), number, None))
    return f"{origin(source, task, split)}, {place}"


def origin(source: Source, task: Task, split: str) -> str:
    """Return where the rows of a split are: the file, or the data set on the hub. The source is not synthetic."""
    return str(_data_file(source.folder, task.name, split)) if source.folder else f"{_on_hub(task).path} ({split})"


def _class_names(source: Source, task: Task, split: str) -> ClassNames:
    if source.folder:
        return class_names(_data_file(source.folder, task.name, split))
    return _hub_names(_from_hub(task, split))


def _raw_rows(source: Source, task: Task, split: str) -> Iterator[tuple[Place, object]]:
    rows = read_rows(_data_file(source.folder, task.name, split)) if source.folder else _hub_rows(task, split)
    for place, row in rows:
        if isinstance(row, Mapping):
            yield from ((f"{place}{part}", single) for part, single in task.unfolded(row))
        else:
            yield place, row


def _hub_rows(task: Task, split: str) -> Iterator[tuple[Place, object]]:
    rows = _from_hub(task, split)
    names = _hub_names(rows)
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", named(row, names)


def _hub_names(rows: Any) -> ClassNames:  # noqa: ANN401 - a data set of `datasets`, which is not typed here
    return names_in(rows.features.to_dict()) if rows.features else {}


def _from_hub(task: Task, split: str) -> Any:  # noqa: ANN401 - as above
    import datasets

    hub = _on_hub(task)
    try:
        rows = datasets.load_dataset(hub.path, hub.configuration, split=(hub.splits or {}).get(split, split))
        for ours, theirs in (hub.columns or {}).items():
            rows = rows.rename_column(theirs, ours)
    except Exception as error:  # network, cache, unknown split: each layer has errors of its own
        raise UserError(
            f"task {task.name!r}: data set {hub.path!r} ({split}) cannot be loaded from the hub: {reason(error)}; "
            f"give a folder with {_expected(task.name)}"
        ) from error
    return rows


def _on_hub(task: Task) -> HubSource:
    """Return where the task's data are on the hub; UserError if they are not there."""
    if task.hub is None:
        raise UserError(f"task {task.name!r} has no data on the hub: give a folder with {_expected(task.name)}")
    return task.hub


def _data_file(folder: Path, task: str, split: str) -> Path:
    files = [path for ending in ENDINGS if (path := folder / task / f"{split}.{ending}").is_file()]
    if len(files) > 1:
        raise UserError(f"{folder / task} has both {files[0].name} and {files[1].name}: keep one of them")
    if files:
        return files[0]
    what_to_do = ""
    if (folder / task).is_dir():
        missing = f"split {split!r} of task {task!r}"
        names = sorted(path.name for path in (folder / task).iterdir() if path.is_file())
    else:
        missing = f"data for task {task!r}"
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        what_to_do = "; or name tasks that are there with --peftbench-tasks"
    found = ", ".join([*names[:MAX_FOUND], *(["..."] if len(names) > MAX_FOUND else [])]) or "nothing"
    raise UserError(f"no {missing} in {folder}: expected {folder / _expected(task, split)}; found {found}{what_to_do}")


def _expected(task: str, split: str = "<split>") -> str:
    return f"{task}/{split}.{{{','.join(READERS)}}}[{COMPRESSED}]"
