"""Errors of transformers while a model is loaded, told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from peftbench.errors import UserError
from peftbench.libraries import quiet, reason

if TYPE_CHECKING:
    from peftbench.models.presets import ModelSource

_NO_ADAPTER: Final = "no-adapter"
"""Where transformers is told to look for an adapter: it would load one that lies beside the model, unasked."""


@contextmanager
def reported(part: str, source: ModelSource) -> Iterator[None]:
    """Keep transformers quiet, and turn its errors into one line."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with quiet("transformers"):
            yield
    except (
        *(ImportError, OSError, RuntimeError, SafetensorError),
        *(ValueError, TypeError, LookupError, AttributeError),  # what transformers makes of files that say too little
    ) as error:
        hint = "" if source.preset or source.folder else "; give a preset, or a folder with the model"
        raise UserError(f"{part} {source.name!r} cannot be loaded: {reason(error)}{hint}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
