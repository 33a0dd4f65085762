"""What stays on a device, on simulated sizes of memory."""

import pytest

from peftbench.devices.residency import Place, place_of_template, resides

GB = 10**9
SIZES = {"tiny": 1.5e6, "XLM-R base": 1.1 * GB, "7 B in bfloat16": 14 * GB, "7 B in float32": 28 * GB}


@pytest.mark.parametrize(
    ("model", "device_gb", "host_gb", "place"),
    [
        ("tiny", 8, 16, "device"),
        ("XLM-R base", 80, 128, "device"),
        ("XLM-R base", 141, 128, "device"),
        ("XLM-R base", 8, 128, "pinned"),  # a small GPU, or one that others fill
        ("XLM-R base", 0, 2, "host"),
        ("7 B in bfloat16", 141, 128, "device"),
        ("7 B in bfloat16", 80, 128, "pinned"),
        ("7 B in float32", 141, 128, "pinned"),
        ("7 B in float32", 80, 64, "host"),
    ],
)
def test_a_template_is_on_the_device_where_memory_allows_else_pinned(
    model: str, device_gb: float, host_gb: float, place: Place
) -> None:
    found = place_of_template(SIZES[model], device_free_bytes=device_gb * GB, host_free_bytes=host_gb * GB)
    assert found == place


def test_three_things_that_stay_leave_most_of_the_device() -> None:
    """Template, reference, and the snapshot of a validity pass."""
    for free in (8 * GB, 80 * GB):
        largest = max(size for size in range(0, free, GB // 10) if resides(size, free))
        assert 3 * largest <= 0.3 * free
