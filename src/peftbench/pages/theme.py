"""The colours and sizes of charts: variables of the page's style sheet, or plain colours for paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of charts. On the page they are CSS variables, so that dark mode and printing need no new chart."""

    ink: str
    paper: str
    """What is behind a chart."""
    muted: str
    grid: str
    accent: str
    good: str
    bad: str
    doubt: str
    series: tuple[str, ...]
    """Colours of methods, phases and parts. Shapes, labels or positions always say the same."""
    width: int | str
    """Width of a chart in pixels, or `container`."""

    def config(self) -> dict[str, Any]:
        """Return the configuration of Vega-Lite."""
        axis = {
            "labelColor": self.ink,
            "titleColor": self.ink,
            "gridColor": self.grid,
            "domainColor": self.muted,
            "tickColor": self.muted,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "labelLimit": 170,
            "labelOverlap": True,
            "tickCount": 6,
        }
        return {
            "aria": False,
            "font": "system-ui, sans-serif",
            "background": "transparent" if self.width == "container" else self.paper,
            "view": {"stroke": None},
            "axis": axis,
            "legend": {
                "labelColor": self.ink,
                "titleColor": self.ink,
                "labelFontSize": 12,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "orient": "bottom",
                "columns": {"expr": "width < 380 ? 1 : width < 600 ? 3 : 4"},
                "labelLimit": 150,
            },
            "text": {"color": self.ink, "fontSize": 12},
            "range": {"category": list(self.series)},
        }


SERIES: Final = 8
"""Number of colours that can still be told apart."""
PAGE: Final = Theme(
    ink="var(--ink)",
    paper="var(--paper)",
    muted="var(--muted)",
    grid="var(--line)",
    accent="var(--accent)",
    good="var(--good)",
    bad="var(--bad)",
    doubt="var(--doubt)",
    series=tuple(f"var(--s{number})" for number in range(1, SERIES + 1)),
    width="container",
)
PAPER: Final = Theme(
    ink="#1b1f24",
    paper="white",
    muted="#6b7280",
    grid="#e5e7eb",
    accent="#0b5cad",
    good="#13713a",
    bad="#b3261e",
    doubt="#8a5a00",
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#5b4a9c", "#4d4d4d"),
    width=560,
)
"""The series are those of Okabe and Ito, darkened where white paper needs it."""
DARK_PAPER: Final = Theme(
    ink="#e8eaed",
    paper="#14171b",
    muted="#a3acb8",
    grid="#3a424d",
    accent="#7ab8ff",
    good="#6fd08c",
    bad="#ff8a80",
    doubt="#f0b95a",
    series=("#6cb6ff", "#ff9a5c", "#4fd1a5", "#f0a0cf", "#d8c14a", "#9fd3f5", "#b9a8ff", "#c4c9d0"),
    width=560,
)
"""The colours of the page's dark mode, for images that cannot read its style sheet."""
