import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftbench.config.target import QualityTarget
from peftbench.errors import UserError
from peftbench.records.record import CurvePoint
from peftbench.studies.training.stopping import Cost, StoppingRule, best, cost, reached


def curve(*qualities: float, every: int = 10) -> list[CurvePoint]:
    return [
        CurvePoint(step=(n + 1) * every, examples=n, time_s=float(n + 1), quality=quality)
        for n, quality in enumerate(qualities)
    ]


@pytest.mark.parametrize(
    ("text", "full", "quality"),
    [
        ("0.8", None, 0.8),
        ("0.8", 0.5, 0.8),
        ("97%", 0.9, 0.873),
        ("97%", None, None),
        ("97%", 0.0, None),
        ("1", None, 1.0),
    ],
)
def test_a_target_is_a_score_or_a_share_of_full_and_none_where_that_is_zero(
    text: str, full: float | None, quality: float | None
) -> None:
    assert QualityTarget.read(text).quality(full) == (quality and pytest.approx(quality))


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "nan%", "high", "97%%", "97%x", "0%", "1.2", "80"])
def test_a_target_that_cannot_be_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^target [^\n]*$"):
        QualityTarget.read(text)


def test_a_share_that_no_score_can_reach_is_refused_once_full_is_known() -> None:
    with pytest.raises(UserError, match=r"120% of full fine-tuning's 0\.900 is 1\.080, above what is possible"):
        QualityTarget.read("120%").quality(0.9)


@pytest.mark.parametrize(
    ("rule", "qualities", "reason"),
    [
        (StoppingRule("target", 100, 0.7), (0.5, 0.6), None),
        (StoppingRule("target", 100, 0.7), (0.5, 0.7), "target"),
        (StoppingRule("target", 20, 0.9), (0.5, 0.4, 0.4), "patience"),
        (StoppingRule("patience", 20), (0.5, 0.4), None),
        (StoppingRule("patience", 20), (0.5, 0.4, 0.5), "patience"),
        (StoppingRule("patience", 20), (0.5, 0.4, 0.6), None),
        (StoppingRule("patience", 20, target=0.1), (0.5, 0.6), None),
        (StoppingRule("patience", 1000), (0.5,) * 10, "budget"),
        (StoppingRule("budget", 20), (0.5, 0.4, 0.3, 0.2), None),
        (StoppingRule("budget", 20), (0.5,) * 10, "budget"),
    ],
)
def test_what_ends_a_training_of_100_steps(
    rule: StoppingRule, qualities: tuple[float, ...], reason: str | None
) -> None:
    assert rule.reason(curve(*qualities), total_steps=100) == reason


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0, 1))
def test_a_cost_is_that_of_the_first_point_at_the_target_or_censored_at_the_last(
    qualities: list[float], target: float
) -> None:
    points = curve(*qualities)
    found = cost(points, target, "time_s")
    if max(qualities) >= target:
        first = next(n for n, quality in enumerate(qualities) if quality >= target)
        assert found == Cost(first + 1.0)
        assert reached(points, target) is points[first]
    else:
        assert found == Cost(float(len(qualities)), censored=True)
        assert reached(points, target) is None
    assert best(points) is points[qualities.index(max(qualities))]


def test_what_was_not_measured_has_no_cost() -> None:
    assert cost(curve(0.9), 0.5, "energy_j") is None
