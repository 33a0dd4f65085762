"""What is in this folder needs a GPU: marked `cuda`, and skipped with the reason where there is none."""

from pathlib import Path

import pytest

from peftbench.devices.device import device_named
from peftbench.errors import UserError


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    if not ours:
        return
    try:
        device_named("cuda")
        reason = ""
    except UserError as error:
        reason = str(error)
    for item in ours:
        item.add_marker(pytest.mark.cuda)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
