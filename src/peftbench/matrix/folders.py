"""Folders of adapters as methods: the words that name them, and the names that cases give them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable, Mapping
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
    known = dict(catalogue.folders)
    for word in words:
        with suppress(*([UserError] if lenient else [])):
            name = parse_method(word).name
            if is_path(name) and name not in known:
                found = _adapters(name)
                catalogue, known[name] = _added(catalogue, found)
    return replace(catalogue, folders=MappingProxyType(known))


def names_of(paths: Collection[Path], taken: Collection[str]) -> Mapping[Path, str]:
    """Return a name for each folder: its own, after as many of the folders around it as make all of them unlike.

    A hyphen, which separates the parts of an id, becomes an underscore, as does whatever an id cannot hold.

    Args:
        paths: Absolute paths, all named by one word.
        taken: Names that others have.
    """
    deepest = max((len(path.parts) - 1 for path in paths), default=1)
    for depth in range(1, deepest + 1):
        names = {path: _name(path, depth) for path in paths}
        if len(set(names.values()) - set(taken)) == len(names):
            break
    return _numbered(names, taken)


def _numbered(names: Mapping[Path, str], taken: Collection[str]) -> dict[Path, str]:
    """Return short names; where two are alike after they were cut, a number follows."""
    used, found = set(taken), dict[Path, str]()
    for path, name in names.items():
        short = name if len(name) <= LONGEST else f"{name[: LONGEST - _TAIL - len(_FILLED)]}{_FILLED}{name[-_TAIL:]}"
        number, own = 1, short
        while own in used:
            number += 1
            own = f"{short}.{number}"
        used.add(own)
        found[path] = own
    return found


def _name(path: Path, depth: int) -> str:
    parts = (re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_.") for part in path.parts[-depth:])
    return ".".join(filter(None, parts)) or "adapter"


def _added(catalogue: Catalogue, paths: Collection[Path]) -> tuple[Catalogue, tuple[str, ...]]:
    """Return a catalogue with a method for each folder, and the names of all of them."""
    known = {method.folder.path: name for name, method in catalogue.methods.items() if isinstance(method, FolderMethod)}
    new = names_of([path for path in paths if path not in known], catalogue.methods)
    methods = {name: FolderMethod.of(name, AdapterFolder.read(path)) for path, name in new.items()}
    names = {**known, **new}
    return (
        replace(catalogue, methods=MappingProxyType({**catalogue.methods, **methods})),
        tuple(names[path] for path in paths),
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
    raise UserError(f"method folder {shown(text)} does not exist: give a folder with {CONFIG}")


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - a link keeps its own name
