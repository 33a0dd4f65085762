"""The time metrics of a record, computed from rounds: pure functions, no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from peftbench.records.estimate import Estimate, median_estimate
from peftbench.records.record import Launch, Metric

if TYPE_CHECKING:
    from peftbench.measure.time.rounds import Rounds


def time_metrics(rounds: Rounds, *, phases: Sequence[str], tokens: float | None, first_s: float) -> dict[str, Metric]:
    """Return the metrics of a time pass.

    Args:
        rounds: The timed rounds.
        phases: Names of the parts of a round, in order.
        tokens: Tokens of a batch without padding, averaged over the batches; None if a round works on no batch.
        first_s: Time of the first, cold round.
    """
    time_s = median_estimate([timing.wall_s for timing in rounds.case])
    metrics = {
        "time_s": _timed(time_s, "s"),
        "first_s": Metric(first_s, "s", noise="timed"),
    }
    if tokens is not None:
        metrics["tokens_per_s"] = Metric(
            tokens / time_s.median,
            "token/s",
            better="higher",
            noise="timed",
            low=tokens / time_s.high,
            high=tokens / time_s.low,
        )
    for index, phase in enumerate(phases):
        metrics[f"{phase}_s"] = _timed(median_estimate([timing.phases_s[index] for timing in rounds.case]), "s")
    device_s = [timing.device_s for timing in rounds.case if timing.device_s is not None]
    if device_s:
        metrics["device_s"] = _timed(median_estimate(device_s), "s")
    if rounds.reference:
        metrics["reference_s"] = _timed(median_estimate([timing.wall_s for timing in rounds.reference]), "s")
        x = median_estimate(rounds.log_ratios)
        metrics["ratio"] = _timed(Estimate(math.exp(x.median), math.exp(x.low), math.exp(x.high)), "1")
    return metrics


def compile_metric(first_s: float, rounds: Rounds) -> dict[str, Metric]:
    """Return how much longer the first round took, which compiles, than the median of the timed rounds."""
    time_s = statistics.median(timing.wall_s for timing in rounds.case)
    return {"compile_s": Metric(first_s - time_s, "s", noise="timed")}


def preparation_metric(preparation_s: float | None) -> dict[str, Metric]:
    """Return the time in which a method prepared the plain model; nothing for a method that needs no preparation."""
    return {} if preparation_s is None else {"preparation_s": Metric(preparation_s, "s", noise="sampled")}


def launch(rounds: Rounds, *, session: str, anchor_s: float | None = None) -> Launch:
    """Return what a launch keeps of its rounds: the median times of case and reference, and the median log ratio x."""
    return Launch(
        session=session,
        rounds=len(rounds.case),
        time_s=statistics.median(timing.wall_s for timing in rounds.case),
        reference_s=statistics.median(timing.wall_s for timing in rounds.reference) if rounds.reference else None,
        x=statistics.median(rounds.log_ratios) if rounds.reference else None,
        anchor_s=anchor_s,
    )


def _timed(estimate: Estimate, unit: str) -> Metric:
    return Metric(estimate.median, unit, noise="timed", low=estimate.low, high=estimate.high)
