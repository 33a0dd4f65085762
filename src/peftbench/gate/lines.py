"""Lines of large files, read by msgspec straight into what is wanted of them: several times as fast as via dicts.

Its errors do not name the case, and a name that stands twice passes. So it reads what is as we write it; anything else
goes to the careful reader (`peftbench.records.fileio`, `peftbench.records.jsondata`), which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from peftbench.errors import UserError
from peftbench.records.record import Status

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


class CaseLine(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A case of a baseline."""

    x: Mapping[str, tuple[Whole, ...]]
    n: Whole
    ms: float | None
    c: tuple[Whole | float | None, ...]
    p: str
    mhz: Whole | None = None


class LaunchLine(msgspec.Struct, frozen=True, gc=False):
    """Of `peftbench.records.record.Launch`, what the gate looks at; likewise below."""

    session: str
    rounds: Whole
    time_s: float
    reference_s: float | None = None
    x: float | None = None
    anchor_s: float | None = None


class MetricLine(msgspec.Struct, frozen=True, gc=False):
    """Of a metric."""

    value: Whole | float | None
    better: str = "lower"
    noise: str = "exact"


class RecordLine(msgspec.Struct, frozen=True, gc=False):
    """Of a record."""

    id: str
    workload: str
    task: str
    batch_size: int
    seq_len: int
    status: Status
    reason: str = ""
    metrics: Mapping[str, MetricLine] = msgspec.field(default_factory=dict)
    launches: tuple[LaunchLine, ...] = ()
    operators: Mapping[str, int] = msgspec.field(default_factory=dict)
    operator_hash: str = ""
    modules: Mapping[str, int] = msgspec.field(default_factory=dict)
