"""What a model of transformers refuses to be given, told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peftbench.errors import UnsupportedError


@contextmanager
def refused_by_model(kind: str) -> Iterator[None]:
    """Within the context, in which a model is run, its own assertions about a batch become a reason.

    Args:
        kind: the model's type.

    Raises:
        UnsupportedError: quotes the assertion; Longformer's about separators between texts is the example.
    """
    try:
        yield
    except AssertionError as error:
        if not _raised_by(error).startswith("transformers.models."):
            raise
        raise UnsupportedError(f"{kind} refuses the batch: {' '.join(str(error).split())}") from error


def _raised_by(error: BaseException) -> str:
    """Return the name of the module that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__", "")) if trace else ""
