"""The requests to a server, and the metrics of their latencies: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from peftbench.records.estimate import median_estimate, quantile
from peftbench.records.record import Metric

Mix = Literal["uniform", "skewed"]
MIXES: Final[tuple[Mix, ...]] = ("uniform", "skewed")
ZIPF: Final = 1.0
"""Exponent of skewed requests: the share of the task of rank r is proportional to 1 / r ** ZIPF."""
PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Request:
    """One example, to be answered for one task. Both are given by number."""

    task: int
    example: int


def requests(count: int, *, tasks: int, examples: int, mix: Mix, seed: int) -> list[Request]:
    """Return requests in order. Task and example of each are drawn independently of all others.

    Args:
        count: Number of requests.
        tasks: Number of tasks that are served.
        examples: Number of different examples, all with the same probability.
        mix: `uniform`: all tasks have the same probability. `skewed`: Zipf's law, task 0 most often.
        seed: Seed of the draw.
    """
    random = Random(f"requests/{mix}/{tasks}/{seed}")
    weights = [1.0 if mix == "uniform" else (rank + 1) ** -ZIPF for rank in range(tasks)]
    chosen = random.choices(range(tasks), weights, k=count)
    return [Request(task, random.randrange(examples)) for task in chosen]


def windows(stream: Sequence[Request], size: int) -> list[Sequence[Request]]:
    """Return the requests in lots of `size`: a lot arrives together, when the lot before it is answered."""
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def latency_metrics(mix: Mix, latencies_s: Sequence[float], total_s: float) -> dict[str, Metric]:
    """Return percentiles of the latency and the throughput, as metrics named after the mix."""
    ordered, middle = sorted(latencies_s), median_estimate(latencies_s)
    found = {
        f"{mix}_p{percent}_s": Metric(quantile(ordered, percent / 100), "s", noise="timed") for percent in PERCENTILES
    }
    found[f"{mix}_p50_s"] = Metric(middle.median, "s", noise="timed", low=middle.low, high=middle.high)
    rate = Metric(len(ordered) / total_s, "request/s", better="higher", noise="timed")
    return {**found, f"{mix}_requests_per_s": rate}


def slope(values: Sequence[float]) -> float | None:
    """Return the least-squares slope of values over their index; None for less than two values."""
    count = len(values)
    if count < 2:  # noqa: PLR2004 - two points make a line
        return None
    middle, mean = (count - 1) / 2, sum(values) / count
    spread = sum((place - middle) ** 2 for place in range(count))
    return sum((place - middle) * (value - mean) for place, value in enumerate(values)) / spread
