"""The anatomy of a transformer's blocks: where attention and feed-forward begin and end, and how a prefix enters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

FUNCTION: Final = "peftbench.methods.paper.prefix_modules:PrefixedFunction"
"""How a prefix enters an attention that calls one of transformers' attention functions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubBlock:
    """An attention or a feed-forward: from the residual stream i it computes h, and the block goes on with h + i.

    All paths are those of modules below the block, with dots, as in `named_modules`.
    """

    reads: str
    """The module whose only input is i: the norm, if it comes before; else the first linear layer."""
    ends: str
    """The module whose output is h: the last one before i is added."""
    norm: str = ""
    """The norm of h + i; empty if the norm comes before, so that nothing is done to h + i."""
    attends: str = ""
    """Of an attention: the module in which queries meet keys and values. Empty: no prefix can stand there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Blocks of one kind, one after the other."""

    blocks: str
    """Path of the blocks below the backbone (`model.base_model`); `*` stands for every child."""
    attention: SubBlock
    feed_forward: SubBlock
    cross_attention: SubBlock | None = None
    """The attention of a decoder to its encoder, if there is one; a prefix stands there too, an adapter does not."""
    dropout: str = ""
    """Attribute of a block, the probability with which the block itself drops every h; empty: modules do that."""
    prefixed: str = FUNCTION
    """`module:class` of what stands for an attention module that a prefix is put before."""

    @property
    def sub_blocks(self) -> Iterator[SubBlock]:
        """Every sub-block."""
        yield from (self.attention, *filter(None, (self.cross_attention,)), self.feed_forward)

    @property
    def attentions(self) -> dict[str, str]:
        """The path of each attention module that a prefix can stand in, by `attention` or `cross_attention`."""
        kinds = {"attention": self.attention, "cross_attention": self.cross_attention}
        return {kind: part.attends for kind, part in kinds.items() if part is not None and part.attends}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Where the parts of one architecture are that methods read and replace."""

    name: str
    """`config.model_type`."""
    stacks: tuple[Stack, ...]
    """In the order of computation. One that a model has not (an encoder without its decoder) is passed over."""

    def __post_init__(self) -> None:
        """Take any sequence of stacks."""
        object.__setattr__(self, "stacks", tuple(self.stacks))
