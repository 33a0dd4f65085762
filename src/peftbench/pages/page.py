"""Makes the page: one HTML file that needs nothing else, and that can ask nobody for anything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import UserError
from peftbench.pages.choose import KEYS, columns
from peftbench.pages.content import PageContent, content_of
from peftbench.pages.guard import ComparisonPart
from peftbench.pages.packing import embedded, packed, rounded
from peftbench.pages.plots import CHOSEN, specification
from peftbench.pages.series import DATA
from peftbench.pages.sources import Sources
from peftbench.pages.theme import PAGE
from peftbench.records.fileio import write_atomically
from peftbench.records.jsondata import encode
from peftbench.report import claims
from peftbench.report.numbers import counted
from peftbench.text import Destination, clean_tree

if TYPE_CHECKING:
    pass

INSTALL: Final = "the page needs packages of its own: pip install 'peftbench[report]'"
"""What an error says if a package of the extra is missing."""


def write_page(sources: Sources, path: Path, *, title: str = "", target: str | None = None) -> None:
    """Write the page of some files.

    Raises:
        UserError: a package is missing, the target cannot be read, or the file cannot be written. Nothing is written.
    """
    write_atomically(path, render(content_of(sources, title=title, target=target)))


def render(content: PageContent) -> str:
    """Return the page as HTML.

    Raises:
        UserError: a package is missing; says how to install it.
    """
    require_packages()
    library, script = _library(), _text("page.js")
    return filled("page.html", _texts(content), library=library, script=script, data=embedded(_data(content)))


def filled(template: str, texts: Mapping[str, Any], *, data: str = "", **scripts: str) -> str:
    """Return a page of a template of this room, with the style sheet of all pages.

    Args:
        template: Name of the template.
        texts: What it shows. It is cleaned, and escaped.
        data: JSON within the page, which is put in as it is.
        scripts: The scripts of the page by their names in the template. No other script runs.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("peftbench.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        clean_tree(texts, Destination.EXPORT),
        style=_text("page.css"),
        policy=_policy(*scripts.values()),
        data=data,
        **scripts,
    )


def require_packages() -> None:
    """Refuse to begin where a package of the extra `report` is missing; raises UserError, which says what to do."""
    try:
        import altair
        import jinja2
        import vl_convert
    except ImportError as error:
        raise UserError(f"{INSTALL} ({error.name} is missing)") from error
    del altair, jinja2, vl_convert


def _texts(content: PageContent) -> dict[str, Any]:
    """Return what the template shows, as JSON types."""
    return {
        "title": content.title,
        "runs": encode(content.runs),
        "headlines": [{**encode(one), "bad": one.bad} for one in content.headlines],
        "answers": encode(content.answers),
        "notices": content.notices,
        "count": counted(len(content.rows), "case"),
        "rows": len(content.rows),
        "comparisons": [_comparison(one) for one in content.comparisons],
        "acceptances": content.acceptances,
        "histories": content.histories,
        "findings": [
            {
                "title": claims.title(one),
                "says": one.claim.says,
                "inequality": one.claim.inequality,
                "found": claims.found(one.found),
                "verdict": one.verdict,
                "tally": claims.tally(one),
                "cases": [f"{case.case}: {claims.found(case.found)}, {case.verdict}" for case in one.cases],
            }
            for one in content.findings
        ],
        "plots": {name: {"title": plot.title, "about": plot.about} for name, plot in content.plots.items()},
    }


def _comparison(part: ComparisonPart) -> dict[str, Any]:
    summary = "; ".join(filter(None, [part.counts, part.sensitivity]))
    return {**encode(part), "summary": summary, "unchanged": counted(part.unchanged, "case")}


def _data(content: PageContent) -> dict[str, Any]:
    """Return what the script of the page reads, as JSON types."""
    return {
        "dataName": DATA,
        "chosenName": CHOSEN,
        "keys": list(KEYS),
        "runs": {run.name: {"settings": run.settings, "fingerprint": run.fingerprint} for run in content.runs},
        "plots": {
            name: {
                "spec": specification(plot, PAGE),
                "keys": list(plot.keys),
                "rows": packed(plot.rows),
            }
            for name, plot in content.plots.items()
        },
        "table": _table(content),
        "details": _details(content),
    }


def _table(content: PageContent) -> dict[str, Any]:
    shown = columns(content.rows)
    pairs = [(row.record, row.full) for row in content.rows]
    texts = [{f"c{place}": column.text(pair) for place, column in enumerate(shown)} for pair in pairs]
    numbers = [[rounded(column.number(pair)) for pair in pairs] if column.number else None for column in shown]
    return {
        "titles": [column.title for column in shown],
        "keys": packed([row.keys for row in content.rows]),
        "texts": packed(texts),
        "numbers": numbers,
    }


def _details(content: PageContent) -> dict[str, Any]:
    """Return the details with each name once: a case has places in `words`."""
    words: dict[str, int] = {}

    def place(text: str) -> int:
        return words.setdefault(text, len(words))

    cases = [
        [
            place(one.run),
            one.id,
            place(one.status),
            place(one.reason),
            [[place(part.title), place(part.note), *map(place, chain.from_iterable(part.facts))] for part in one.lists],
            [place(warning) for warning in one.warnings],
            one.command,
        ]
        for one in content.details
    ]
    return {"cases": cases, "words": list(words)}


def _policy(*scripts: str) -> str:
    """Return a content security policy: these scripts run and no other, and no address is ever asked."""
    hashes = "".join(f" 'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts)
    run = f"script-src{hashes}; " if scripts else ""
    return f"default-src 'none'; {run}style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def _text(name: str) -> str:
    return (files("peftbench.pages") / "templates" / name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, which a page embeds once for all its charts."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    snippet = "window.vegaEmbed = vegaEmbed;"
    return str(vl_convert.javascript_bundle(snippet, vl_version=version)).replace("</script", "<\\/script")
