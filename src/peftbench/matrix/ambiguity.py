"""Words that name both a folder and something else: a sentence says which one is taken, and how to get the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from peftbench.config.places import folder_of, is_path
from peftbench.data import sources as data

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.models.presets import Preset
    from peftbench.tasks.base import Task


def ambiguities(settings: Settings, presets: Mapping[str, Preset], tasks: Iterable[Task]) -> Iterator[str]:
    """Yield a sentence for each word of the settings that also names a folder. The folder is not taken.

    Args:
        settings: The user's settings.
        presets: Model presets by name.
        tasks: The tasks of the run.

    Raises:
        UserError: the data does not exist.
    """
    yield from of_model(settings.model, presets)
    if settings.data in data.WORDS and folder_of(settings.data):
        yield _sentence("data", settings.data, "the word for that source")
    if settings.test_data:
        yield from _of_sets(data.parse_source(settings.data), tuple(tasks), settings.test_data)


def of_model(name: str, presets: Mapping[str, Preset]) -> Iterator[str]:
    """Yield a sentence if `name` is both a preset and a folder."""
    if name in presets and folder_of(name):
        yield _sentence("model", name, "the preset")


def _of_sets(source: data.Source, tasks: Iterable[Task], names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each test set that is a split of the data, if a folder of this name has data as well."""
    for name in names:
        folder = None if is_path(name) or source.folder is None else folder_of(name)
        other = data.Source("folder", folder)
        if folder and any(data.has_split(source, task, name) and data.has_split(other, task, "test") for task in tasks):
            yield _sentence("test-data", name, "the split")


def _sentence(option: str, word: str, meaning: str) -> str:
    return f"--peftbench-{option}={word} is {meaning}, not the folder of this name; for the folder write ./{word}"
