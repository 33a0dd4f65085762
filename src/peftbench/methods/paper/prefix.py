"""Prefix tuning as the paper has it: a reparametrised prefix in every self-attention, positions not shifted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import UnsupportedError, unknown
from peftbench.methods.paper.encoder_method import EncoderMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.methods.configuration import Configuration

ATTENTIONS: Final = ("eager", "sdpa")
"""Attention implementations whose masks are understood."""


@dataclass(frozen=True, slots=True)
class PrefixConfig:
    """What can be overridden of prefix tuning."""

    prefix_length: int = 30
    """Tokens of the prefix."""
    bottleneck_size: int = 512
    """Width of the MLP that makes the prefix."""
    non_linearity: str = "tanh"
    """Name of an activation of transformers."""


@dataclass(frozen=True, kw_only=True)
class PrefixMethod(EncoderMethod[PrefixConfig]):
    """Trained keys and values before those of every self-attention."""

    def attach(self, model: PreTrainedModel, blocks: list[Any], configuration: Configuration[PrefixConfig]) -> None:
        """Wrap the encoder and its self-attentions."""
        from transformers.activations import ACT2FN

        from peftbench.methods.paper.prefix_modules import Prefix, PrefixedEncoder

        config, values = model.config, configuration.values
        attention = config._attn_implementation  # noqa: SLF001 # transformers has no public name for it
        if attention not in ATTENTIONS:
            raise UnsupportedError(f"{self.name} understands the masks of {', '.join(ATTENTIONS)}, not of {attention}")
        if values.non_linearity not in ACT2FN:
            raise unknown("non-linearity", values.non_linearity, ACT2FN)
        prefix = Prefix(
            prefix_length=configuration.require_at_least("prefix_length", 1),
            bottleneck_size=configuration.require_at_least("bottleneck_size", 1),
            activation=ACT2FN[values.non_linearity],
            layers=len(blocks),
            heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
        )
        key = blocks[0].attention.self.key.weight
        backbone: Any = model.base_model
        backbone.encoder = PrefixedEncoder(backbone.encoder, blocks, prefix.to(device=key.device, dtype=key.dtype))


METHODS: Final = (
    PrefixMethod(
        name="prefix",
        summary="trained keys and values before those of every self-attention, positions not shifted",
        source="Li and Liang 2021, arXiv 2101.00190, section 4",
        config=PrefixConfig(),
        unmergeable="keys and values that belong to no token cannot be folded into weights",
    ),
)
