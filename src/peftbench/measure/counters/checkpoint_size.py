"""The size of a checkpoint: its tensors, and everything beside them. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peftbench.records.record import Metric

HEADER_BYTES: Final = 8
"""A safetensors file begins with the length of its header, a little-endian integer of this many bytes."""
STORAGES: Final = "data"
"""The folder of the tensors in an archive of torch.save, below the archive's one top folder."""


@dataclass(frozen=True, slots=True)
class CheckpointSize:
    """The size of the files of a checkpoint."""

    tensor_bytes: int
    other_bytes: int
    """Configuration, model card and headers; files of an unknown format count here as a whole."""

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return self.tensor_bytes + self.other_bytes

    def metrics(self) -> dict[str, Metric]:
        """Return the parts and their sum as metrics of a record."""
        return {
            "checkpoint_bytes": Metric(self.total_bytes, "B"),
            "checkpoint_tensor_bytes": Metric(self.tensor_bytes, "B"),
            "checkpoint_other_bytes": Metric(self.other_bytes, "B"),
        }


def checkpoint_size(folder: Path) -> CheckpointSize:
    """Return the size of a checkpoint's files in `folder` and all folders below it."""
    tensor_bytes = total_bytes = 0
    for path in folder.rglob("*"):
        if path.is_file():
            total_bytes += path.stat().st_size
            tensor_bytes += _tensor_bytes(path)
    return CheckpointSize(tensor_bytes, total_bytes - tensor_bytes)


def _tensor_bytes(path: Path) -> int:
    """Return the tensor bytes of a file: what follows the header of safetensors, or the storages of torch.save."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            header_bytes = HEADER_BYTES + int.from_bytes(file.read(HEADER_BYTES), "little")
        return max(path.stat().st_size - header_bytes, 0)
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as archive:
        return sum(
            entry.compress_size for entry in archive.infolist() if Path(entry.filename).parts[1:2] == (STORAGES,)
        )
