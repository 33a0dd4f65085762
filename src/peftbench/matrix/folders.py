"""Folders of adapters as methods: the words that name them, and the names that cases give them."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from peftbench.config.places import folder_of, is_path
from peftbench.errors import UserError, shown
from peftbench.matrix.cases import parse_method
from peftbench.methods.peft.adapter_folder import CONFIG, AdapterFolder, is_adapter
from peftbench.methods.peft.folder import FolderMethod

if TYPE_CHECKING:
    from peftbench.matrix.catalogue import Catalogue

LONGEST: Final = 40
"""Largest length of the name that a folder's method has in ids, in characters."""
_TAIL: Final = 14
_FILLED: Final = ".."
"""Stands for the middle of a long name."""


def with_folders(catalogue: Catalogue, words: Iterable[str], *, lenient: bool = False) -> Catalogue:
    """Return a catalogue that also knows the folders that words name: `./path`, or `./experiments/*/*`.

    Args:
        catalogue: What there is.
        words: Methods as a user writes them. Those that are no paths are passed over.
        lenient: Whether a word is passed over, too, if its folders cannot be read.

    Raises:
        UserError: a folder does not exist, or holds no adapter that can be read.
    """
    read: dict[str, Mapping[Path, AdapterFolder]] = {}
    for word in words:
        with suppress(*([UserError] if lenient else [])):
            name = parse_method(word).name
            if is_path(name) and name not in catalogue.folders:
                read[name] = {path: AdapterFolder.read(path) for path in _adapters(name)}
    return _added(catalogue, read)


def names_of(groups: Iterable[Iterable[Path]], taken: Collection[str], *, here: Path) -> Mapping[Path, str]:
    """Return a name for each folder: its own, after as many of the folders around it as make all of them unlike.

    The names do not depend on the order of the groups, nor on where the folder `here` lies: a state of the code has
    another one in lock-step. A hyphen, which separates the parts of an id, becomes an underscore, as does whatever an
    id cannot hold.

    Args:
        groups: Absolute paths. Those that one word names get as many folders around them, each.
        taken: Names that others have.
        here: The folder from which paths are seen. What is around it is in no name.
    """
    parts = [[(path, _seen_from(here, path)) for path in group] for group in groups]
    depths = [1] * len(parts)
    while True:
        deepest_last = sorted(zip(depths, parts, strict=True))
        names = {path: _name(p, depth) for depth, group in deepest_last for path, p in group}
        counts = Counter([*names.values(), *taken])
        unclear = [
            any(counts[names[path]] > 1 and len(p) > depth for path, p in group)
            for group, depth in zip(parts, depths, strict=True)
        ]
        if not any(unclear):
            return _numbered(names, taken)
        depths = [depth + more for depth, more in zip(depths, unclear, strict=True)]


def _numbered(names: Mapping[Path, str], taken: Collection[str]) -> dict[Path, str]:
    """Return short names; where two are alike after they were cut, a number follows."""
    used, found = set(taken), dict[Path, str]()
    for path, name in sorted(names.items()):
        short = name if len(name) <= LONGEST else f"{name[: LONGEST - _TAIL - len(_FILLED)]}{_FILLED}{name[-_TAIL:]}"
        number, own = 1, short
        while own in used:
            number += 1
            own = f"{short}.{number}"
        used.add(own)
        found[path] = own
    return found


def _seen_from(here: Path, path: Path) -> tuple[str, ...]:
    """Return the parts of a path below the nearest folder that holds `here` as well."""
    parts = tuple(part for part in Path(os.path.relpath(path, here)).parts if part != os.pardir)
    return parts or (path.name,)


def _name(parts: Sequence[str], depth: int) -> str:
    words = (re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_.") for part in parts[-depth:])
    return ".".join(filter(None, words)) or "adapter"


def _added(catalogue: Catalogue, read: Mapping[str, Mapping[Path, AdapterFolder]]) -> Catalogue:
    """Return a catalogue with a method for each folder, given those that each word names."""
    known = {method.folder.path: name for name, method in catalogue.methods.items() if isinstance(method, FolderMethod)}
    folders = {path: folder for group in read.values() for path, folder in group.items() if path not in known}
    new = names_of(
        [[path for path in group if path in folders] for group in read.values()], catalogue.methods, here=Path.cwd()
    )
    methods = {name: FolderMethod.of(name, folders[path]) for path, name in new.items()}
    names = {**known, **new}
    by_word = {word: tuple(names[path] for path in group) for word, group in read.items()}
    return replace(
        catalogue,
        methods=MappingProxyType({**catalogue.methods, **methods}),
        folders=MappingProxyType({**catalogue.folders, **by_word}),
    )


def _adapters(text: str) -> list[Path]:
    """Return the absolute paths of the folders that a path or a pattern names, each once, in order.

    Raises:
        UserError: there are none, or the folder at a path holds no adapter.
    """
    folder = folder_of(text)
    if folder is not None:
        if not is_adapter(folder):
            raise UserError(f"method folder {shown(text)} has no {CONFIG}: give a folder that PEFT saved an adapter in")
        return [_absolute(folder)]
    if glob.has_magic(text):
        found = (Path(path) for path in sorted(glob.glob(os.path.expanduser(text), recursive=True)))  # noqa: PTH111, PTH207
        if paths := list(dict.fromkeys(_absolute(path) for path in found if is_adapter(path))):
            return paths
        raise UserError(f"method folders {shown(text)}: no folder that matches holds {CONFIG}")
    if Path(text).is_file():
        raise UserError(f"method {shown(text)} is a file: give the folder that holds {CONFIG}")
    raise UserError(
        f"method folder {shown(text)} does not exist: give a folder with {CONFIG}; write ? for a bracket or comma of a "
        "folder's name"
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - a link keeps its own name
