"""Lines of large files, read by msgspec, which is several times as fast as the careful reader.

msgspec's errors do not name the case, and it takes the last of two equal names. Therefore it reads only what is exactly
as we write it: every field that we always write is there once, and no other. Anything else goes to the careful reader
(`records.fileio`, `records.jsondata`), which says what is wrong. What the careful reader refuses is refused here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from peftbench.errors import UserError
from peftbench.records.record import Better, Noise, Status

NOT_AS_WRITTEN: Final = (
    UserError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RecursionError,
    msgspec.MsgspecError,
)
"""Errors that reading a text of another form may raise."""

Whole = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
"""Whole number that every float can hold. The careful reader judges larger ones."""

Log = Annotated[int, msgspec.Meta(ge=-(10**6), le=10**6)]
"""Logarithm of a ratio in units of 1e-4. The careful reader judges larger ones."""


class _Line(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of all lines. A field has a default if our writers leave the field out at that value."""


class CaseLine(_Line, frozen=True):
    """A case of a baseline."""

    x: Mapping[str, tuple[Log, ...]]
    n: Whole
    ms: float | None
    c: tuple[Whole | float | None, ...]
    p: str
    mhz: Whole | None = None


class LaunchLine(_Line, frozen=True):
    """A launch, with the fields of `peftbench.records.record.Launch`. The classes below mirror that module, too."""

    session: str
    rounds: Whole
    time_s: float
    reference_s: float | None = None
    x: float | None = None
    anchor_s: float | None = None


class MetricLine(_Line, frozen=True):
    """A metric."""

    value: Whole | float | None
    unit: str
    better: Better
    noise: Noise
    low: float | None = None
    high: float | None = None
    reason: str = ""


class CurveLine(_Line, frozen=True):
    """A point of a curve."""

    step: Whole
    examples: Whole
    time_s: float
    quality: float
    scores: Mapping[str, float]
    loss: float | None = None
    flops: float | None = None
    energy_j: float | None = None


class KernelLine(_Line, frozen=True):
    """Kernels of one name."""

    name: str
    family: str
    calls: Whole
    time_s: float


class OperatorLine(_Line, frozen=True):
    """Calls of one operator."""

    name: str
    calls: Whole
    share: float


class RecordLine(_Line, frozen=True):
    """A record."""

    id: str
    workload: str
    method: str
    task: str
    batch_size: Whole
    seq_len: Whole
    status: Status
    metrics: Mapping[str, MetricLine]
    launches: tuple[LaunchLine, ...]
    operators: Mapping[str, Whole]
    modules: Mapping[str, Whole]
    passes_s: Mapping[str, float]
    quantiles_s: tuple[float, ...]
    variant: Mapping[str, Any]
    curve: tuple[CurveLine, ...]
    warnings: tuple[str, ...]
    reason: str = ""
    operator_hash: str = ""
    stop: str = ""
    longest_kernels: tuple[KernelLine, ...] | None = None
    longest_operators: tuple[OperatorLine, ...] | None = None
    timeline: Mapping[str, tuple[float, ...]] | None = None


def require_each_name_once(text: bytes | msgspec.Raw, found: object) -> None:
    """Raise ValueError unless a JSON text has as many names as we would write for what was read from it.

    It cannot have fewer. It has more if a name stands twice, or if it has a name that we leave out.
    """
    if _names(msgspec.json.format(bytes(text), indent=-1)) != _names(msgspec.json.encode(found)):
        raise ValueError("a name stands twice")


def _names(compact: bytes) -> int:
    """Return the number of names in a JSON text without blanks. A name ends with a quote before a colon."""
    if b"\\" in compact:  # escaped backslashes and escaped quotes inside texts
        compact = compact.replace(b"\\\\", b"").replace(b'\\"', b"")
    return compact.count(b'":')
