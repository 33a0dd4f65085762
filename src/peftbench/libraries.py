"""What other libraries say while they load something: kept quiet, and an error told in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet(library: str) -> Iterator[None]:
    """Within the context, `library` logs nothing; afterwards as before."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def warnings_only() -> Iterator[None]:
    """Within the context, warnings that are to be errors (`-W error`) are shown as warnings; afterwards as before.

    Libraries remark on what methods do to a model; that is no fault of the suite that a user keeps free of warnings.
    """
    with warnings.catch_warnings():
        filters: list[Any] = list(warnings.filters)
        warnings.resetwarnings()
        for action, message, category, module, line in filters:
            warnings.filterwarnings(
                "default" if action == "error" else action,
                message=_pattern(message),
                category=category,
                module=_pattern(module),
                lineno=line or 0,
                append=True,
            )
        yield


def _pattern(expression: object) -> str:
    """Return the text of a filter's expression, which is compiled, or not yet, or None."""
    return str(getattr(expression, "pattern", expression or ""))


def reason(error: BaseException) -> str:
    """Return the first line of an error's text without its full stop, or the error's type where it has no text."""
    lines = (line.strip().rstrip(".") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
