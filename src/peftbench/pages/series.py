"""The charts of series: over states, sessions, seconds, and the number of tasks served."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import altair as alt

    from peftbench.pages.theme import Theme

DATA: Final = "rows"
"""Name of the data set of each chart."""
FLAT: Final = MappingProxyType({"labelAngle": 0, "labelLimit": 110})
"""Axis whose names lie flat, so that they can be read. Names that would overlap are left out."""


def base_chart(theme: Theme, *, height: Any) -> alt.Chart:  # noqa: ANN401 - pixels or a step
    """Return an empty chart of the data set `DATA`."""
    import altair as alt

    return alt.Chart(alt.NamedData(name=DATA), height=height, width=theme.width)


def history(theme: Theme) -> alt.LayerChart:
    """Rows: file, case, state, order, change, low, high (in percent), kind."""
    import altair as alt

    base = base_chart(theme, height=280).encode(x=alt.X("state:N", title=None, sort=None, axis=dict(FLAT)))
    spread = base.mark_rule(color=theme.muted).encode(y=alt.Y("low:Q", title="change of time in %"), y2="high:Q")
    marked = "datum.kind == 'SLOWER' || datum.kind == 'FASTER'"
    worse, better = "datum.kind == 'SLOWER' || datum.kind == 'MORE'", "datum.kind == 'FASTER' || datum.kind == 'LESS'"
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        y="change:Q",
        color=alt.when(worse)
        .then(alt.value(theme.bad))
        .when(better)
        .then(alt.value(theme.good))
        .otherwise(alt.value(theme.muted)),
        shape=alt.when("datum.kind == 'FASTER'").then(alt.value("triangle-down")).otherwise(alt.value("circle")),
        tooltip=["case:N", "state:N", "shown:N", "kind:N"],
    )
    words = base.transform_filter(marked).mark_text(align="left", dx=8).encode(y="change:Q", text="kind:N")
    return spread + dots + words


def sessions(theme: Theme) -> alt.LayerChart:
    """Rows: file, case, session, launch, ratio."""
    import altair as alt

    base = base_chart(theme, height=240).encode(
        x=alt.X("session:N", title=None, sort=None, axis=dict(FLAT)),
        y=alt.Y("ratio:Q", title="x base", scale=alt.Scale(zero=False)),
        tooltip=["case:N", "session:N", "ratio:Q"],
    )
    return alt.layer(base.mark_point(size=50, opacity=0.8, color=theme.accent))


def curves(theme: Theme) -> alt.LayerChart:
    """Rows: group, series, seconds, quality, low, high, shown."""
    import altair as alt

    base = base_chart(theme, height=300).encode(x=alt.X("seconds:Q", title="seconds of steps"), **_told_apart())
    scale = alt.Scale(zero=False)
    bands = (
        base_chart(theme, height=300)
        .mark_area(opacity=0.2)
        .encode(
            x="seconds:Q",
            y=alt.Y("low:Q", title="quality", scale=scale),
            y2="high:Q",
            fill=alt.Fill("series:N", sort=None, legend=None),
        )
    )
    lines = base.mark_line(strokeWidth=2).encode(y="quality:Q")
    dots = base.mark_point(size=40, opacity=1).encode(y="quality:Q", tooltip=["series:N", "shown:N"])
    return bands + lines + dots


def _told_apart() -> dict[str, Any]:
    """Return the channels by which series are told apart: colour, and dashes for those who cannot rely on colour."""
    import altair as alt

    dashes = alt.StrokeDash("series:N", title=None, sort=None)
    return {"color": alt.Color("series:N", title=None, sort=None), "strokeDash": dashes}


def serving(theme: Theme) -> alt.LayerChart:
    """Rows: group, series, tasks, ms, p95."""
    return _against_tasks(theme, "ms", "median ms of a request", "p95")


def serving_load(theme: Theme) -> alt.LayerChart:
    """Rows: group, series, offered, ms, p95, state, shown."""
    import altair as alt

    x = alt.X(
        "offered:Q", title="requests that arrive in a second", scale=alt.Scale(zero=False, padding=24, nice=False)
    )
    base = base_chart(theme, height=320).encode(x=x, **_told_apart())
    scale = alt.Scale(type="log", nice=False, padding=16)
    above = base.mark_rule(opacity=0.5).encode(y=alt.Y("ms:Q", title="median ms of a request", scale=scale), y2="p95:Q")
    lines = base.mark_line(strokeWidth=2).encode(y="ms:Q")
    tooltip = ["series:N", "state:N", "shown:N"]
    shape = alt.when("datum.state == 'keeps up'").then(alt.value("circle")).otherwise(alt.value("triangle-up"))
    dots = base.mark_point(size=80, opacity=1).encode(y="ms:Q", shape=shape, tooltip=tooltip)
    point = base.transform_filter("datum.state == 'starvation point'").mark_point(
        size=80, opacity=1, filled=True, shape="triangle-up"
    )
    return above + lines + dots + point.encode(y="ms:Q", tooltip=tooltip)


def serving_memory(theme: Theme) -> alt.LayerChart:
    """Rows: group, series, tasks, mb."""
    return _against_tasks(theme, "mb", "MB in memory", None)


def _against_tasks(theme: Theme, number: str, title: str, upper: str | None) -> alt.LayerChart:
    import altair as alt

    axis = alt.Axis(tickMinStep=1)
    base = base_chart(theme, height=300).encode(x=alt.X("tasks:Q", title="tasks served", axis=axis), **_told_apart())
    above = [base.mark_rule(opacity=0.5).encode(y=f"{number}:Q", y2=f"{upper}:Q")] if upper else []
    lines = base.mark_line(strokeWidth=2).encode(y=alt.Y(f"{number}:Q", title=title))
    dots = base.mark_point(size=60, opacity=1).encode(y=f"{number}:Q", tooltip=["series:N", "tasks:Q", "shown:N"])
    return alt.layer(*above, lines, dots)


def timeline_memory(theme: Theme) -> alt.LayerChart:
    """Rows: run, id, series, seconds, mb."""
    return _over_seconds(theme, "mb", "MB in use", **_told_apart())


def timeline_power(theme: Theme) -> alt.LayerChart:
    """Rows: run, id, series, seconds, watts."""
    return _over_seconds(theme, "watts", "W")  # the only series needs no legend


def _over_seconds(theme: Theme, number: str, title: str, **told_apart: Any) -> alt.LayerChart:  # noqa: ANN401 - channels
    import altair as alt

    base = base_chart(theme, height=220).encode(
        x=alt.X("seconds:Q", title="seconds", scale=alt.Scale(nice=False)),
        y=alt.Y(f"{number}:Q", title=title, scale=alt.Scale(zero=True)),
        **told_apart,
        tooltip=["series:N", "seconds:Q", f"{number}:Q"],
    )
    color = {} if told_apart else {"color": theme.accent}
    return alt.layer(base.mark_line(strokeWidth=1.5, interpolate="step-after", **color))
