"""Puts small faults into files, in the structure of JSON or in the bytes. Pure functions of a random generator."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any, Final

JUNK: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 7, 40.0, 0.5, -0.0, 1e-320, 1e308, -1e308, 2**31, 2**53 + 1, 2**63, 2**64, 10**30),
    *(10**400, math.inf, -math.inf, math.nan),
    *("", " ", "7", "Lower", "Exact", "lower", "higher", "timed", "ok", "failed", "\ud800", "\x00", "a\nb", "\x1b[31m"),
    *("é" * 50, "x" * 5000, "x" * 200_000, "::error::x", "../../x", "convergence", "deployment", "adding"),
    *([], [7], [[]], ["a"], [None], {}, {"a": 7}, {"": {}}, {"1": [7]}, {"value": 1}),
)
"""Values that replace a value."""
ACTS: Final = (
    *("alike", "alike", "alike", "alike", "scale", "scale", "delete", "delete", "swap", "swap"),
    *("junk", "junk", "add", "rename", "twice"),
)
"""Faults of a value. `alike` replaces it by another value of the same type, which passes checks of types."""
BYTES: Final[tuple[bytes, ...]] = (
    *(b"\x00", b"\xff", b"\n", b"\r\n", b"\xef\xbb\xbf", b'"', b"\\", b",", b":", b"{", b"}", b"[", b"]", b"NaN"),
    *(b"Infinity", b"1e999", b"-", b"0", b'"\\ud800"', b"[" * 2000, b"9" * 400, b" " * 1000, b'{"a":1,"a":2}'),
)
"""Bytes that are inserted."""


def mutated(data: bytes, random: Random) -> bytes:
    """Return a file with one to three faults. Faults in the structure need a file or lines of JSON."""
    for _ in range(random.choice((1, 1, 1, 1, 2, 3))):
        by_structure = random.random() < 0.75  # noqa: PLR2004 - most faults by bytes make no JSON
        data = (_restructured(data, random) if by_structure else None) or _garbled(data, random)
    return data


def _restructured(data: bytes, random: Random) -> bytes | None:
    text = data.decode(errors="replace")
    if (value := _parsed(text)) is not None:
        return _rebuilt(text, value, random)
    lines = text.splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if _parsed(line) is not None]
    if not places:
        return None
    place = random.choice(places)
    lines[place] = _rebuilt(lines[place], _parsed(lines[place]), random).decode(errors="replace").rstrip("\n") + "\n"
    return "".join(lines).encode(errors="replace")


def _parsed(text: str) -> Any:  # noqa: ANN401 - JSON
    """Return the content of a JSON text; None if it is no JSON, or no object or list with entries."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) and value else None


def _rebuilt(text: str, value: Any, random: Random) -> bytes:  # noqa: ANN401 - JSON
    container, key = random.choice(_places(value))
    old = container[key]
    act = random.choice(ACTS)
    if act == "twice":
        return _with_a_name_twice(text, value, random)
    if act == "delete":
        del container[key]
    elif act == "add" and isinstance(container, dict):
        container[random.choice(("strange", "", "value", "id", "x" * 300))] = deepcopy(random.choice(JUNK))
    elif act == "rename" and isinstance(container, dict):
        container[random.choice((f"{key}s", key.upper(), "", " " + key))] = container.pop(key)
    elif act == "scale" and type(old) in (int, float):
        container[key] = old * random.choice((-1, 0, 3, 1e6, 1e300))
    elif act == "alike" and (others := [junk for junk in JUNK if type(junk) is type(old)]):
        container[key] = deepcopy(random.choice(others))
    elif act == "swap":
        other, place = random.choice(_places(value))
        container[key] = deepcopy(other[place])
    else:
        container[key] = deepcopy(random.choice(JUNK))
    return _written(value, like=text)


def _written(value: Any, *, like: str) -> bytes:  # noqa: ANN401 - JSON
    """Write JSON again. A run or a baseline keeps the layout that its quick reader needs."""
    if "\n" not in like.strip() or not isinstance(value, dict):
        return json.dumps(value).encode(errors="replace")
    if "records" in value and isinstance(value["records"], list):
        records = ",\n".join(json.dumps(record) for record in value["records"])
        parts = [f"{json.dumps(name)}: {json.dumps(part)}" for name, part in value.items() if name != "records"]
        return ("{\n" + ",\n".join([*parts, f'"records": [\n{records}\n]']) + "\n}\n").encode(errors="replace")
    parts = [f"{json.dumps(name)}: {_block(part)}" for name, part in value.items()]
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode(errors="replace")


def _block(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, dict) and value:
        lines = ",\n".join(
            f"{json.dumps(name)}:{json.dumps(part, separators=(',', ':'))}" for name, part in value.items()
        )
        return f"{{\n{lines}\n}}"
    return json.dumps(value, separators=(",", ":"))


def _with_a_name_twice(text: str, value: Any, random: Random) -> bytes:  # noqa: ANN401 - JSON
    named = [(container, key) for container, key in _places(value) if isinstance(container, dict)]
    if not named:
        return text.encode(errors="replace")
    container, key = random.choice(named)
    marker = "a name that is not there yet"
    container[marker] = random.choice((deepcopy(container[key]), deepcopy(random.choice(JUNK))))
    return _written(value, like=text).replace(json.dumps(marker).encode(), json.dumps(key).encode())


def _places(value: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401 - JSON
    """Return each container in a value with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in ((value, key), *_places(item))]


def _garbled(data: bytes, random: Random) -> bytes:
    act: Callable[[bytes, Random], bytes] = random.choice((_flip, _cut, _leave_out, _insert, _insert, _repeat, _zero))
    return act(data, random)


def _span(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 2, 8, 50, 500)))


def _flip(data: bytes, random: Random) -> bytes:
    if not data:
        return b"\x80"
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << random.randrange(8))]) + data[place + 1 :]


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _leave_out(data: bytes, random: Random) -> bytes:
    start, end = _span(data, random)
    return data[:start] + data[end:]


def _insert(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice(BYTES) + data[place:]


def _repeat(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    place = random.randrange(len(lines))
    return b"\n".join([*lines[:place], lines[place], *lines[place:]])


def _zero(data: bytes, random: Random) -> bytes:
    start, end = _span(data, random)
    return data[:start] + bytes(end - start) + data[end:]
