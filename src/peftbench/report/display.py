"""Shows a judgement on the terminal, in the step summary and annotations of GitHub, and in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from peftbench.gate.judgement import Judgement
from peftbench.records.fileio import write_atomically
from peftbench.records.jsondata import encode
from peftbench.report import comparison, exports, markdown
from peftbench.text import in_markdown, on_terminal


def terminal(judgement: Judgement, *, width: int, color: bool) -> str:
    """Return the verdict and what changed, no line longer than `width`. In a GitHub job, annotations follow."""
    if judgement.comparison is None:
        error = f"{exports.github_error('peftbench', judgement.base)}\n"
        return f"{on_terminal(judgement.base)}\n{error if judgement.failed and _in_actions() else ''}"
    report = comparison.render(judgement.comparison, fail_on=judgement.fail_on, width=width, color=color)
    annotations = exports.github_annotations(judgement.comparison, fail_on=judgement.fail_on) if _in_actions() else ""
    since = "".join(f"{on_terminal(f'{origin.case}: {origin.sentence}')}\n" for origin in judgement.origins)
    return f"{on_terminal(judgement.base)}\n{report}{since}{annotations}"


def write(judgement: Judgement, diff_json: Path | None) -> None:
    """Write the comparison to a file, if there is one, and append it to the step summary of a GitHub job.

    Raises:
        UserError: the file cannot be written.
    """
    found = judgement.comparison
    if diff_json:
        write_atomically(diff_json, comparison_json(judgement))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        base = in_markdown(judgement.base)
        text = markdown.render(found, fail_on=judgement.fail_on) if found else f"**{base}**\n"
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"## peftbench: {base}\n\n{text}\n" if found else f"## peftbench\n\n{text}")
            file.writelines(f"* {in_markdown(f'{origin.case}: {origin.sentence}')}\n" for origin in judgement.origins)


def comparison_json(judgement: Judgement) -> str:
    """Return the comparison as JSON, with the states at which cases became worse."""
    if judgement.comparison is None:
        return exports.nothing_to_json(judgement.base, failed=judgement.failed)
    return _with_origins(exports.to_json(judgement.comparison, fail_on=judgement.fail_on), judgement)


def _with_origins(text: str, judgement: Judgement) -> str:
    if not judgement.origins:
        return text
    return json.dumps({**json.loads(text), "bisect": encode(judgement.origins)}, indent=1, allow_nan=False) + "\n"


def _in_actions() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"
