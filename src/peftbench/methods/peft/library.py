"""How PEFT is called: with its own randomness, without its chatter, its faults turned into reasons."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from peftbench.devices.failures import classify
from peftbench.errors import PeftbenchError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CHATTER: Final = (
    r"`is_gradient_checkpointing` is deprecated",  # PEFT reads an attribute that transformers renamed
    r"Unsupported layer type '<class '.*Norm'>' encountered",  # LN tuning, whose layers these are
    r"lora with eva initialization used with low_cpu_mem_usage=False",  # EVA, whose model is on its device already
    r"Full backward hook is firing when gradients are computed",  # LoRA-GA, whose first layer reads embeddings
)
_CHATTER_ON_CPU: Final = (
    r"Failed to load the CUDA extension",  # BOFT; on CUDA a user must know why it is slow
    r"Setting boft_n_butterfly_factor to 1",
)
# Not RuntimeError: being out of memory is one, and no fault of the library's.
_FAULTS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    re.error,
    RecursionError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    StopIteration,
    TypeError,
    ValueError,
)


@contextmanager
def faults_as(error_class: type[PeftbenchError], doing: str, *, running: bool = False) -> Iterator[None]:
    """Within the context, turn an exception of the library into one line that quotes it.

    Args:
        error_class: what becomes of it.
        doing: what PEFT cannot do.
        running: whether a model is run, which raises RuntimeError where tensors do not fit together.
    """
    faults = (*_FAULTS, RuntimeError) if running else _FAULTS
    try:
        yield
    except faults as error:
        if isinstance(error, RuntimeError) and classify(error).kind != "failed":  # the machine's, not the library's
            raise
        message = " ".join(str(error).split())
        raise error_class(f"PEFT cannot {doing}: {type(error).__name__}: {message}") from error


@contextmanager
def quiet(model: PreTrainedModel) -> Iterator[None]:
    """Within the context, warnings that say nothing to a user of this model are not shown."""
    with warnings.catch_warnings():
        for message in _CHATTER if model.device.type == "cuda" else (*_CHATTER, *_CHATTER_ON_CPU):
            warnings.filterwarnings("ignore", message=message)
        yield
