"""The charts of a page: pure functions from a theme to a chart of Altair whose data are filled in later.

The docstring of each function names the rows that its chart reads. Colour never says anything alone: labels, shapes or
positions say it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from peftbench.gate.verdict import VERDICTS
from peftbench.pages.series import (
    DATA,
    base_chart,
    curves,
    history,
    serving,
    serving_load,
    serving_memory,
    sessions,
    timeline_memory,
    timeline_power,
)

if TYPE_CHECKING:
    import altair as alt

    from peftbench.pages.theme import Theme

    Draw = Callable[[Theme], alt.LayerChart]

CHOSEN: Final = "chosen"
"""Parameter of charts of cases: the id of the case that is looked at."""
FACTORS: Final = tuple(first * 10.0**place for place in range(-4, 4) for first in (1, 1.5, 2, 3, 5, 7))
"""Costs against full fine-tuning that have a line in the chart of all methods."""
OF_CASE: Final = ("run", "id")
"""Keys of charts that show nothing but the case that is looked at."""
ROW_HEIGHT: Final = 22
"""Pixels of a row in charts with names on the vertical axis."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart with its data."""

    name: str
    """Stable name, which a figure's file has."""
    title: str
    about: str
    """What is drawn, and how to read it. It is also the chart's description for screen readers."""
    rows: Sequence[Mapping[str, Any]]
    """Texts and numbers by name. All rows have the same names; `keys` are among them."""
    keys: Sequence[str]
    """Names of the texts by which the page selects rows."""

    @property
    def draw(self) -> Draw:
        """The function that draws the chart."""
        return CHARTS[self.name]


def specification(plot: Plot, theme: Theme) -> dict[str, Any]:
    """Return the chart in Vega-Lite, without data."""
    return specified(plot.draw(theme), theme, f"{plot.title}. {plot.about}")


def specified(chart: alt.LayerChart, theme: Theme, description: str) -> dict[str, Any]:
    """Return a chart in Vega-Lite with the configuration of its theme, without data."""
    spec: dict[str, Any] = chart.to_dict(validate=False)
    spec["config"] = theme.config()
    if theme.width == "container":
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    spec["description"] = description
    return spec


def _rows_of(theme: Theme) -> alt.Chart:
    """Return a chart with a row for each name."""
    return base_chart(theme, height={"step": ROW_HEIGHT})


def overview(theme: Theme) -> alt.LayerChart:
    """Rows: method, what, value, low, high, groups, shown."""
    import altair as alt

    base = base_chart(theme, height={"step": 12, "for": "offset"}).encode(
        y=alt.Y("method:N", title=None, sort=None), yOffset=alt.YOffset("what:N", sort=None)
    )
    scale = alt.Scale(type="log", nice=False, padding=12)
    axis = alt.Axis(values=list(FACTORS), format="~g")
    one = alt.Chart(alt.NamedData(name=DATA)).mark_rule(strokeDash=[4, 3], color=theme.muted).encode(x=alt.datum(1))
    spread = base.mark_rule(strokeWidth=2, color=theme.muted).encode(
        x=alt.X("low:Q", scale=scale, axis=axis, title="x full"), x2="high:Q"
    )
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        x="value:Q",
        color=alt.Color("what:N", title=None, sort=None),
        shape=alt.Shape("what:N", title=None, sort=None),
        tooltip=["method:N", "what:N", "shown:N", "groups:Q"],
    )
    return one + spread + dots


def time_memory(theme: Theme) -> alt.LayerChart:
    """Rows: workload, task, batch, method, ms, ms_low, ms_high, mb, shown."""
    return _scatter(theme, x="ms", y="mb", titles=("ms a round", "peak MB"), lower_y=True)


def cost_quality(theme: Theme) -> alt.LayerChart:
    """Rows: group, method, seconds, seconds_low, seconds_high, quality, quality_low, quality_high, reached, shown."""
    titles = ("seconds of steps to the target", "quality")
    return _scatter(theme, x="seconds", y="quality", titles=titles, lower_y=False)


def merging(theme: Theme) -> alt.LayerChart:
    """Rows: group, method, share, share_low, share_high, left, left_low, left_high, reached, shown."""
    titles = ("bytes stored, against one adapter a task", "quality, against one adapter a task")
    return _scatter(theme, x="share", y="left", titles=titles, lower_y=False)


def _scatter(theme: Theme, *, x: str, y: str, titles: tuple[str, str], lower_y: bool) -> alt.LayerChart:
    """Return points with intervals. Methods that no other beats in both numbers are joined, filled and labelled."""
    import altair as alt

    best = "min" if lower_y else "max"
    beats = f"datum.{y} {'<=' if lower_y else '>='} datum.best"
    worst = "1e300" if lower_y else "-1e300"
    base = (
        base_chart(theme, height=320)
        .transform_calculate(known=f"datum.reached ? datum.{y} : {worst}")
        .transform_window(
            window=[alt.WindowFieldDef(op=best, field="known", **{"as": "best"})],
            frame=[None, 0],
            sort=[alt.SortField(x), alt.SortField(y, order="ascending" if lower_y else "descending")],
        )
        .transform_window(
            window=[alt.WindowFieldDef(op="row_number", field="", **{"as": "nth"})],
            groupby=["known"],
            sort=[alt.SortField(x)],
        )
        .transform_calculate(front=f"({beats}) && datum.nth == 1 && datum.reached")
        .encode(
            x=alt.X(f"{x}:Q", title=titles[0], scale=alt.Scale(zero=False, padding=24, nice=False)),
            y=alt.Y(f"{y}:Q", title=titles[1], scale=alt.Scale(zero=False, padding=24, nice=False)),
        )
    )
    line = base.transform_filter("datum.front").mark_line(
        interpolate="step-after", color=theme.accent, strokeDash=[5, 3], strokeWidth=1.5
    )
    wide = base.mark_rule(color=theme.muted, opacity=0.6).encode(x=f"{x}_low:Q", x2=f"{x}_high:Q")
    layers = [line, wide]
    if not lower_y:
        layers.append(base.mark_rule(color=theme.muted, opacity=0.6).encode(y=f"{y}_low:Q", y2=f"{y}_high:Q"))
    dots = base.mark_point(size=90, strokeWidth=2, opacity=1).encode(
        color=alt.when("datum.front").then(alt.value(theme.accent)).otherwise(alt.value(theme.muted)),
        fill=alt.when("datum.front").then(alt.value(theme.accent)).otherwise(alt.value("transparent")),
        shape=alt.when("datum.reached").then(alt.value("circle")).otherwise(alt.value("triangle-right")),
        tooltip=["method:N", "shown:N"],
    )
    told = ["method:N", "shown:N"]
    names = base.mark_text(align="left", dx=9, dy=-8, limit=140).encode(text="method:N", tooltip=told)
    return alt.layer(*layers, dots, names)


def phases(theme: Theme) -> alt.LayerChart:
    """Rows: workload, task, batch, method, id, part, order, ms."""
    return _stack(theme, "ms", "ms a round")


def memory(theme: Theme) -> alt.LayerChart:
    """Rows: workload, task, batch, method, id, part, order, mb."""
    return _stack(theme, "mb", "MB at the peak")


def _stack(theme: Theme, number: str, title: str) -> alt.LayerChart:
    import altair as alt

    base = _rows_of(theme).encode(y=alt.Y("method:N", title=None, sort=None))
    bars = base.mark_bar(stroke=theme.paper, strokeWidth=1, height={"band": 0.75}).encode(
        x=alt.X(f"{number}:Q", title=title, stack="zero"),
        color=alt.Color("part:N", title=None, sort=alt.SortField("order")),
        order="order:Q",
        opacity=_emphasis(),
        tooltip=["method:N", "part:N", "shown:N"],
    )
    return alt.layer(bars).add_params(alt.param(name=CHOSEN, value=""))


def rounds(theme: Theme) -> alt.LayerChart:
    """Rows: workload, task, batch, method, id, q0, q5, q25, q50, q75, q95, q100, shown."""
    import altair as alt

    scale = alt.Scale(zero=False, nice=False, padding=8)
    base = _rows_of(theme).encode(y=alt.Y("method:N", title=None, sort=None), tooltip=["method:N", "shown:N"])
    whole = base.mark_rule(color=theme.muted).encode(x=alt.X("q0:Q", title="ms a round", scale=scale), x2="q100:Q")
    most = base.mark_rule(strokeWidth=4, color=theme.muted).encode(x="q5:Q", x2="q95:Q")
    half = base.mark_bar(color=theme.accent, height=12).encode(x="q25:Q", x2="q75:Q", opacity=_emphasis())
    middle = base.mark_tick(color=theme.ink, thickness=3, height=16).encode(x="q50:Q")
    return (whole + most + half + middle).add_params(alt.param(name=CHOSEN, value=""))


def _emphasis() -> Any:  # noqa: ANN401 - a condition of Altair
    """Return the opacity by which the chosen case stands out."""
    import altair as alt

    return alt.when(f"{CHOSEN} == '' || datum.id == {CHOSEN}").then(alt.value(1)).otherwise(alt.value(0.55))


def verdicts(theme: Theme) -> alt.LayerChart:
    """Rows: file, case, verdict, change, low, high (in percent), cause, shown."""
    import altair as alt

    words = list(VERDICTS[:4])
    colors = [theme.bad, theme.doubt, theme.good, theme.muted]
    shapes = ["triangle-right", "diamond", "triangle-left", "circle"]
    base = _rows_of(theme).encode(y=alt.Y("case:N", title=None, sort=None))
    same = alt.Chart(alt.NamedData(name=DATA)).mark_rule(strokeDash=[4, 3], color=theme.muted).encode(x=alt.datum(0))
    spread = base.mark_rule(strokeWidth=2, color=theme.muted).encode(
        x=alt.X("low:Q", title="change of time in %"), x2="high:Q"
    )
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(
        x="change:Q",
        color=alt.Color("verdict:N", title=None, scale=alt.Scale(domain=words, range=colors)),
        shape=alt.Shape("verdict:N", title=None, scale=alt.Scale(domain=words, range=shapes)),
        tooltip=["case:N", "verdict:N", "shown:N", "cause:N"],
    )
    return same + spread + dots


CHARTS: Final[Mapping[str, Draw]] = {
    "overview": overview,
    "cost-quality": cost_quality,
    "time-memory": time_memory,
    "phases": phases,
    "rounds": rounds,
    "memory": memory,
    "verdicts": verdicts,
    "history": history,
    "sessions": sessions,
    "curves": curves,
    "serving-latency": serving,
    "serving-load": serving_load,
    "serving-memory": serving_memory,
    "merging": merging,
    "timeline-memory": timeline_memory,
    "timeline-power": timeline_power,
}
"""Name of a plot -> function that draws its chart."""
