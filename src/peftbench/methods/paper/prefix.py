"""Prefix tuning as the paper has it: a reparametrised prefix in every attention, positions not shifted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Final

from peftbench.errors import UnsupportedError, unknown
from peftbench.methods.paper.block_method import BlockMethod
from peftbench.methods.paper.blocks import part, stack_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.methods.anatomy import Stack
    from peftbench.methods.configuration import Configuration
    from peftbench.methods.paper.blocks import Block
    from peftbench.methods.paper.prefix_modules import Prefix

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
class PrefixMethod(BlockMethod[PrefixConfig]):
    """Trained keys and values before those of every attention."""

    def attach(self, model: PreTrainedModel, blocks: list[Block], configuration: Configuration[PrefixConfig]) -> None:
        """Wrap the stacks of blocks and their attentions."""
        attention = model.config._attn_implementation  # noqa: SLF001 # transformers has no public name for it
        if attention not in ATTENTIONS:
            raise UnsupportedError(f"{self.name} understands the masks of {', '.join(ATTENTIONS)}, not of {attention}")
        for stack, members in groupby(blocks, key=lambda block: block.stack):
            _prefix_stack(model, stack, list(members), configuration)


def _prefix_stack(
    model: PreTrainedModel, stack: Stack, blocks: list[Block], configuration: Configuration[PrefixConfig]
) -> None:
    """Put prefixes before the attentions of one stack, those of a kind made together."""
    from peftbench.methods.paper.prefix_modules import PrefixedStack
    from peftbench.methods.paper.replacement import Note

    if not stack.attentions:
        raise UnsupportedError(f"the anatomy of {model.config.model_type!r} does not say where keys and values enter")
    prefixed = resolve_name(stack.prefixed)
    like = next(blocks[0].module.parameters())
    prefixes, notes = {}, {}
    for kind, path in stack.attentions.items():
        prefixes[kind] = _make_prefix(model, len(blocks), configuration).to(device=like.device, dtype=like.dtype)
        notes[kind] = Note()
        for layer, block in enumerate(blocks):
            block.replace(path, partial(prefixed, note=notes[kind], layer=layer))
    parent, _, name = stack_path(model, stack).rpartition(".")
    holder = part(model, parent)
    setattr(holder, name, PrefixedStack(getattr(holder, name), prefixes, notes))


def _make_prefix(model: PreTrainedModel, layers: int, configuration: Configuration[PrefixConfig]) -> Prefix:
    from transformers.activations import ACT2FN

    from peftbench.methods.paper.prefix_modules import Prefix

    config, values = model.config.get_text_config(), configuration.values
    if values.non_linearity not in ACT2FN:
        raise unknown("non-linearity", values.non_linearity, ACT2FN)
    key_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Prefix(
        prefix_length=configuration.require_at_least("prefix_length", 1),
        bottleneck_size=configuration.require_at_least("bottleneck_size", 1),
        activation=ACT2FN[values.non_linearity],
        layers=layers,
        key_size=key_heads * head_size,
        hidden_size=config.hidden_size,
    )


METHODS: Final = (
    PrefixMethod(
        name="prefix",
        summary="trained keys and values before those of every attention, positions not shifted",
        source="Li and Liang 2021, arXiv 2101.00190, section 4",
        config=PrefixConfig(),
        unmergeable="keys and values that belong to no token cannot be folded into weights",
    ),
)
