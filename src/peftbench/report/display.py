"""Where people look: the terminal, the step summary and annotations of GitHub, and files for other programs."""

from __future__ import annotations

import os
from pathlib import Path

from peftbench.gate.judgement import Judgement
from peftbench.records.fileio import write_atomically
from peftbench.report import comparison, exports, markdown


def terminal(judgement: Judgement, *, width: int, color: bool) -> str:
    """Return the verdict and what changed, no line longer than `width`; in GitHub's log, annotations as well."""
    if judgement.comparison is None:
        error = f"{exports.github_error('peftbench', judgement.base)}\n"
        return f"{judgement.base}\n{error if judgement.failed and _in_actions() else ''}"
    report = comparison.render(judgement.comparison, fail_on=judgement.fail_on, width=width, color=color)
    annotations = exports.github_annotations(judgement.comparison, fail_on=judgement.fail_on) if _in_actions() else ""
    return f"{judgement.base}\n{report}{annotations}"


def write(judgement: Judgement, diff_json: Path | None) -> None:
    """Write the comparison to a file, if one was asked for, and add to the step summary of a GitHub job.

    Raises:
        UserError: the file cannot be written.
    """
    found = judgement.comparison
    if diff_json:
        if found is None:
            text = exports.nothing_to_json(judgement.base, failed=judgement.failed)
        else:
            text = exports.to_json(found, fail_on=judgement.fail_on)
        write_atomically(diff_json, text)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        text = markdown.render(found, fail_on=judgement.fail_on) if found else f"**{judgement.base}**\n"
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"## peftbench: {judgement.base}\n\n{text}\n" if found else f"## peftbench\n\n{text}")


def _in_actions() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"
