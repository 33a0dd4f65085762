"""The samples of a thread, reduced: pure functions."""

import pytest

from peftbench.measure.energy.nvml import Reading
from peftbench.measure.energy.sampler import MOST_POINTS, Sample, sample_metrics, timeline
from peftbench.measure.energy.sharing import Sharing


def samples(count: int) -> list[tuple[float, Sample]]:
    return [
        (number / 20, {"power_w": Reading(100.0 + number), "temperature_c": Reading(60)}) for number in range(count)
    ]


@pytest.mark.parametrize("count", [1, 199, 200, 201, 1000, 4321])
def test_a_timeline_has_at_most_two_hundred_points_and_metrics_know_all_samples(count: int) -> None:
    found = timeline(samples(count))
    assert {len(series) for series in found.values()} == {len(found["t_s"])}
    assert min(count, MOST_POINTS / 2) <= len(found["t_s"]) <= MOST_POINTS
    assert found["power_w"][0] == 100
    metrics = sample_metrics(samples(count))
    assert metrics["power_peak_w"].value == 100 + count - 1
    assert metrics["power_mean_w"].value == pytest.approx(100 + (count - 1) / 2)
    assert all(metric.noise == "sampled" for metric in metrics.values())


def test_no_sample_is_a_reason_and_an_empty_timeline() -> None:
    assert timeline([]) == {"t_s": ()}
    assert sample_metrics([])["power_peak_w"].reason == "no sample was taken"


def test_two_looks_at_others_are_one_with_the_larger_numbers() -> None:
    unknown = Sharing(None, reason="why")
    assert unknown.joined(Sharing(2, mig=True)) == Sharing(2, mig=True)
    assert unknown.joined(unknown) == unknown
    assert Sharing(1, 5).joined(Sharing(0, 7, mps_clients=3)) == Sharing(1, 7, mps_clients=3)
    assert unknown.metrics()["neighbours"].reason == "why"
    assert (unknown.shared, unknown.metrics()["shared_gpu"].value) == (False, 0)
