"""Records as trainings and servers leave them, made of a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
from tests.records import a_record

from peftbench.records.record import CurvePoint, Launch, Metric, Record, Run

Make = Callable[..., Record]


def curve(qualities: Sequence[float], step_s: float, scores: Mapping[str, Sequence[float]]) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(
            step=10 * (n + 1),
            examples=80 * (n + 1),
            time_s=10 * (n + 1) * step_s,
            quality=quality,
            scores={name: values[n] for name, values in scores.items()},
            flops=1e9 * (n + 1),
        )
        for n, quality in enumerate(qualities)
    )


@pytest.fixture(scope="session")
def training() -> Make:
    """Makes the record of a training whose quality is given at every tenth step."""

    def make(
        method: str = "full",
        qualities: Sequence[float] = (0.5, 0.9),
        *,
        seed: int = 0,
        lr: float = 3e-5,
        step_s: float = 1.0,
        task: str = "nli",
        workload: str = "convergence",
        scores: Mapping[str, Sequence[float]] | None = None,
        variant: Mapping[str, float] | None = None,
        **metrics: float,
    ) -> Record:
        varied = {"seed": seed, "lr": lr, **(variant or {})}
        return a_record(
            method,
            workload=workload,
            task=task,
            metrics={key.replace("__", "@"): Metric(value, "1") for key, value in metrics.items()},
            variant=varied,
            curve=curve(qualities, step_s, scores or {}),
        )

    return make


@pytest.fixture(scope="session")
def inference() -> Make:
    """Makes the record of an inference that takes `ratio` times the reference, in one launch or several."""

    def make(method: str, *ratios: float, width: float = 0.0, workload: str = "inference") -> Record:
        import math

        ratio = ratios[0]
        return a_record(
            method,
            workload=workload,
            batch_size=1,
            metrics={"ratio": Metric(ratio, "1", low=ratio * (1 - width), high=ratio * (1 + width))},
            launches=tuple(Launch("s", 10, 0.01, 0.01, math.log(one)) for one in ratios),
        )

    return make


@pytest.fixture(scope="session")
def run_of() -> Callable[..., Run]:
    def make(*records: Record, **settings: object) -> Run:
        asked = {"model": "m", "data": "d", "learning_rates": [3e-5, 1e-3], "target": "90%", **settings}
        return Run(fingerprint={}, settings=asked, records=records)

    return make
