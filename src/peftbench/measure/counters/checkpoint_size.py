"""How large a checkpoint is: its tensors, which a user pays for, and what stands beside them. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peftbench.records.record import Metric

HEADER_BYTES: Final = 8
"""A safetensors file begins with the length of its header, a little-endian number of so many bytes."""
STORAGES: Final = "data"
"""The folder in which torch.save keeps tensors, within the folder that its archive holds."""


@dataclass(frozen=True, slots=True)
class CheckpointSize:
    """The size of the files of a checkpoint."""

    tensor_bytes: int
    other_bytes: int
    """Configuration, model card, headers; and whole files of a form that is not known here."""

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
    """Return the size of a checkpoint's files, in all folders below `folder`."""
    tensor_bytes = total_bytes = 0
    for path in folder.rglob("*"):
        if path.is_file():
            total_bytes += path.stat().st_size
            tensor_bytes += _tensor_bytes(path)
    return CheckpointSize(tensor_bytes, total_bytes - tensor_bytes)


def _tensor_bytes(path: Path) -> int:
    """Return how much of a file is tensors: of safetensors what follows the header, of torch.save its storages."""
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
