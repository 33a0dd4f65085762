"""Finds, reads and writes baselines. A folder holds one file for each fingerprint and settings."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from peftbench.errors import UserError
from peftbench.gate.format import from_text, to_text
from peftbench.gate.snapshot import Snapshot
from peftbench.records.fileio import locked, read_text, write_atomically
from peftbench.records.known import settings_of_old
from peftbench.records.record import differences

NAMED: Final = ("device", "model", "dtype")
"""Entries with which the name of a file begins, for people. A hash follows."""
PATIENCE_S: Final = 10.0
"""How long a writer waits for another writer."""


def file_name(fingerprint: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Return the name of the baseline's file: `cpu-tiny-float32-1b2c3d4e.json`."""
    known = {**settings, **fingerprint}
    words = [re.sub(r"[^a-z0-9.]+", "-", str(known[name]).lower()).strip("-.")[-24:] for name in NAMED if name in known]
    text = json.dumps([dict(fingerprint), dict(settings_of_old(settings))], sort_keys=True, default=str)
    return "-".join([*filter(None, words), hashlib.sha256(text.encode()).hexdigest()[:8]]) + ".json"


def load(path: Path) -> Snapshot:
    """Read a baseline; raises UserError, which says where the file is wrong and what to do."""
    return from_text(read_text(path), str(path))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Lock a baseline against other writers; raises UserError if another writer has it."""
    with locked(path, timeout_s=PATIENCE_S):
        yield


def save(baseline: Snapshot, path: Path) -> None:
    """Write a baseline atomically.

    Raises:
        UserError: the file cannot be written, or could not be read back.
    """
    text = to_text(baseline)
    try:
        from_text(text, str(path))
    except UserError as error:
        raise UserError(f"not written, since it could not be read back: {error}") from error
    write_atomically(path, text)


@dataclass(frozen=True, slots=True)
class Found:
    """The baseline that is most similar to a run."""

    path: Path
    baseline: Snapshot


def find(folder: Path, fingerprint: Mapping[str, str], settings: Mapping[str, Any]) -> Found | None:
    """Return the baseline of this fingerprint and these settings.

    If there is none, return that of equal settings with the most similar fingerprint, or None.

    Raises:
        UserError: the file cannot be read.
    """
    path = folder / file_name(fingerprint, settings)
    if path.exists():
        return Found(path, load(path))
    others = [Found(path, load(path)) for path in sorted(folder.glob("*.json"))]
    alike = [found for found in others if dict(found.baseline.settings) == dict(settings)]
    return min(alike, key=lambda found: len(differences(found.baseline.fingerprint, fingerprint)), default=None)
