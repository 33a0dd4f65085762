"""The chart of a history as an image, for pages without scripts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peftbench.pages.plots import specified
from peftbench.pages.series import DATA
from peftbench.text import Destination, clean_tree

if TYPE_CHECKING:
    import altair as alt

    from peftbench.pages.theme import Theme


def as_image(title: str, rows: Sequence[Mapping[str, Any]], theme: Theme) -> str:
    """Return a chart as a `data:` address of an image, which cannot run anything.

    Args:
        title: What is drawn.
        rows: `run`, `method` and `value` of each point, in the order of the runs.
        theme: Plain colours, since an image does not read the style sheet of its page.
    """
    import vl_convert

    spec = specified(_lines(theme), theme, f"{title}: a line a method, over the runs from the oldest to the latest")
    spec["datasets"] = {DATA: clean_tree(list(rows), Destination.EXPORT)}
    return f"data:image/svg+xml;base64,{base64.b64encode(vl_convert.vegalite_to_svg(spec).encode()).decode()}"


def _lines(theme: Theme) -> alt.LayerChart:
    import altair as alt

    base = alt.Chart(alt.NamedData(name=DATA), height=240, width=theme.width).encode(
        x=alt.X("run:N", title=None, sort=None, axis=alt.Axis(labelAngle=-30)),
        y=alt.Y("value:Q", title=None, axis=alt.Axis(format="~s"), scale=alt.Scale(zero=False)),
        detail="method:N",
    )
    method = {"title": None, "sort": None}  # equal titles make colour and shape one legend
    dots = base.mark_point(size=60, filled=True, opacity=1).encode(
        color=alt.Color("method:N", **method), shape=alt.Shape("method:N", **method)
    )
    return base.mark_line(strokeWidth=1.5, color=theme.muted, opacity=0.7) + dots
