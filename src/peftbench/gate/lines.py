"""Lines of large files, read by msgspec: several times as fast as by the careful reader.

Its errors do not name the case, and of a name that stands twice the last one wins. So it reads what is as we write it:
each field that we always write is there, no other, none twice. Anything else goes to the careful reader
(`records.fileio`, `records.jsondata`), which says what is wrong. Nothing passes here that it refuses.
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
"""What reading a text of another form may raise."""

Whole = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
"""Far from what no float can hold: larger ones are for the careful reader to judge."""

Log = Annotated[int, msgspec.Meta(ge=-(10**6), le=10**6)]
"""1e-4 of a logarithm: likewise."""


class _Line(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A field has a default where our writers leave it out if it has that."""


class CaseLine(_Line, frozen=True):
    """A case of a baseline."""

    x: Mapping[str, tuple[Log, ...]]
    n: Whole
    ms: float | None
    c: tuple[Whole | float | None, ...]
    p: str
    mhz: Whole | None = None


class LaunchLine(_Line, frozen=True):
    """Of a launch: the fields of `peftbench.records.record.Launch`; likewise below."""

    session: str
    rounds: Whole
    time_s: float
    reference_s: float | None = None
    x: float | None = None
    anchor_s: float | None = None


class MetricLine(_Line, frozen=True):
    """Of a metric."""

    value: Whole | float | None
    unit: str
    better: Better
    noise: Noise
    low: float | None = None
    high: float | None = None
    reason: str = ""


class CurveLine(_Line, frozen=True):
    """Of a point of a curve."""

    step: Whole
    examples: Whole
    time_s: float
    quality: float
    scores: Mapping[str, float]
    loss: float | None = None
    flops: float | None = None
    energy_j: float | None = None


class RecordLine(_Line, frozen=True):
    """Of a record."""

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


def require_each_name_once(text: bytes | msgspec.Raw, found: object) -> None:
    """Raise ValueError unless a JSON text has as many names as what was read of it would be written with.

    It cannot have fewer. It has more where a name stands twice, or stands there that we would have left out.
    """
    if _names(msgspec.json.format(bytes(text), indent=-1)) != _names(msgspec.json.encode(found)):
        raise ValueError("a name stands twice")


def _names(compact: bytes) -> int:
    """Return how many names the objects of a JSON text without blanks have: what ends with a quote before a colon."""
    if b"\\" in compact:  # quotes inside a text have a backslash before them, which may have one itself
        compact = compact.replace(b"\\\\", b"").replace(b'\\"', b"")
    return compact.count(b'":')
