"""What tests of the plugin share beside fixtures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., pytest.RunResult]
"""Runs pytest with a small matrix and the given arguments."""


def records(path: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a run file by id."""
    return {record["id"]: record for record in json.loads(path.read_text())["records"]}
