"""The backbone of a method of PEFT in few bits: the override that asks for it, and what PEFT then does to the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import UnsupportedError, UserError, shown
from peftbench.methods.peft.layers import backbone
from peftbench.methods.preparation import preparing
from peftbench.methods.quantized.schemes import Scheme, scheme_named

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.records.ids import Scalar

OVERRIDE: Final = "quantization"
"""The option of every method of PEFT that is no field of its configuration."""


def parted(method: str, default: str, overrides: Mapping[str, Scalar]) -> tuple[Scheme | None, dict[str, Scalar]]:
    """Return the scheme in which the backbone is stored (None: as it is), and the other overrides.

    Args:
        method: The method's name.
        default: The name of the scheme that the method has without an override, or ''.
        overrides: What the user gave.

    Raises:
        UserError: there is no such scheme.
    """
    others = dict(overrides)
    name = others.pop(OVERRIDE, default)
    if not isinstance(name, str):
        raise UserError(f"{method}({OVERRIDE}={shown(name)}): must be the name of a quantization, such as nf4")
    return (scheme_named(name) if name else None), others


def quantise_backbone(model: PreTrainedModel, scheme: Scheme) -> None:
    """Quantise the backbone's linear layers in place, and call PEFT's `prepare_model_for_kbit_training`.

    Embeddings, norms, biases and the head (a language model's as well) stay as they are, as in transformers.

    Raises:
        UnsupportedError: there is nothing to quantise, the library is missing, or the device cannot do it.
    """
    import torch
    from peft import prepare_model_for_kbit_training

    names = [name for name, module in backbone(model) if type(module) is torch.nn.Linear]
    if not names:
        raise UnsupportedError(f"{OVERRIDE}={scheme.name}: {model.config.model_type} has no torch.nn.Linear")
    with preparing(model):
        scheme.apply(model, names)
        prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def remark(scheme: Scheme) -> str:
    """Return what a reader must know of a quantised backbone."""
    casts: Any = " puts what is left in 16 bits into float32 and" if scheme.library == "bitsandbytes" else ""
    return (
        f"the backbone's linear layers are in {scheme.name} ({scheme.library}: {scheme.summary}); PEFT's "
        f"prepare_model_for_kbit_training{casts} freezes all; activations are kept or computed again as "
        "--peftbench-gradient-checkpointing says"
    )
