"""Figures for a paper: stable names, the drawn data beside them, and the front that the plot claims to draw."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from tests.unit.pages.specimens import everything

from peftbench.errors import UserError
from peftbench.pages.content import content_of
from peftbench.pages.figures import figures, table, write_figures
from peftbench.pages.plots import CHARTS, Plot, specification
from peftbench.pages.series import DATA
from peftbench.pages.theme import PAGE, PAPER


def test_each_plot_is_a_vector_a_picture_and_its_data(tmp_path: Path) -> None:
    content = content_of(everything())
    few = {name: content.plots[name] for name in ("overview", "verdicts", "cost-quality")}
    written = write_figures(replace(content, plots=few), tmp_path / "figures")
    assert [path.name for path in written] == [f"{name}.{ending}" for name in few for ending in ("svg", "png", "csv")]
    for name, plot in few.items():
        root = ET.parse(tmp_path / f"figures/{name}.svg").getroot()  # noqa: S314 - our own
        assert root.tag.endswith("svg")
        assert (tmp_path / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        rows = list(csv.DictReader((tmp_path / f"figures/{name}.csv").open()))
        assert [row["shown"] for row in rows] == [row["shown"] for row in plot.rows]


def test_names_of_figures_are_stable_and_unique() -> None:
    plots = content_of(everything()).plots
    names = [name for name, _, _ in figures(plots.values())]
    assert len(set(names)) == len(names)
    assert "time-memory-train-step-nli-32-tokens-8" in names
    assert "curves" in names
    rows = [{"group": text, "method": "a"} for text in ("a b", "a-b")]
    with pytest.raises(UserError, match="two figures would be called curves-a-b"):
        list(figures([Plot("curves", "", "", rows, ("group",))]))


def test_a_cell_is_no_formula() -> None:
    assert table([{"a": "=1+1", "b": -2}, {"a": "+3.0 %", "b": 0}]) == "a,b\n'=1+1,-2\n+3.0 %,0\n"


@pytest.mark.parametrize("theme", [PAGE, PAPER], ids=["page", "paper"])
def test_every_chart_compiles_and_describes_itself(theme: object) -> None:
    import vl_convert

    for name in CHARTS:
        spec = specification(Plot(name, "Title", "About.", (), ()), theme)  # type: ignore[arg-type] # of the two
        assert spec["description"] == "Title. About."
        assert vl_convert.vegalite_to_vega({**spec, "width": 300, "datasets": {DATA: []}})["marks"]


def beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether one method is at least as good in both numbers, and better in one."""
    mine, theirs = ((row["ms"], row["mb"]) for row in (one, other))
    return mine != theirs and mine[0] <= theirs[0] and mine[1] <= theirs[1]


def test_filled_points_are_those_that_no_other_method_beats() -> None:
    import vl_convert

    draw = Random(3)
    rows: list[dict[str, Any]] = [
        {"method": str(n), "ms": draw.random(), "mb": draw.randrange(9) / 9, "reached": n % 5 > 0, "shown": ""}
        for n in range(40)
    ]
    rows = [{**row, "ms_low": row["ms"], "ms_high": row["ms"]} for row in rows]
    able = [row for row in rows if row["reached"]]
    front = {row["method"] for row in able if not any(beats(other, row) for other in able)}
    spec = {**specification(Plot("time-memory", "", "", rows, ()), PAPER), "datasets": {DATA: rows}}
    spec["config"]["aria"] = True  # each point then says which method it is
    drawn = re.findall(r'\{[^{}]*"shape"[^{}]*\}', json.dumps(vl_convert.vegalite_to_scenegraph(spec)))
    points = [json.loads(point) for point in drawn if '"fill"' in point]
    filled = {
        re.search(r"method: (\d+)", point["description"])[1]  # type: ignore[index] # each says its method
        for point in points
        if point["fill"] == PAPER.accent
    }
    assert len(points) == len(rows)
    assert filled == front
