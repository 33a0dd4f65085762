"""Bottleneck adapters: Houlsby, Pfeiffer, their parallel forms, par_bn and Compacter, all of one mechanism.

Each makes an attention or a feed-forward end in h + s A(z) instead of h (`AdaptedOutput`). They differ in what A reads
(z), in where it sits, in s, and in whether its layers are dense or PHM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from peftbench.errors import unknown
from peftbench.methods.paper.block_method import BlockMethod
from peftbench.methods.paper.blocks import layer_numbers

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from peftbench.methods.anatomy import SubBlock
    from peftbench.methods.configuration import Configuration
    from peftbench.methods.paper.blocks import Block
    from peftbench.methods.paper.bottleneck_modules import AdaptedOutput, Bottleneck, Reads


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a bottleneck sits in a block, and what it reads."""

    reads: Reads
    after_attention: bool
    """Whether the attention has one too, not only the feed-forward."""
    starts_at_zero: bool = False
    """Whether the up-projection starts at zero, so that training starts from the plain model."""


@dataclass(frozen=True, slots=True)
class BottleneckConfig:
    """What can be overridden of a bottleneck with dense layers."""

    reduction_factor: int = 16
    """Hidden size / bottleneck size."""
    non_linearity: str = "relu"
    """Name of an activation of transformers."""
    scaling: float = 1.0
    """s."""
    layers: str = "all"
    """The layers that get an adapter: `all`, or numbers and ranges joined by plus signs, such as 0-3+11."""


@dataclass(frozen=True, slots=True)
class CompacterConfig(BottleneckConfig):
    """What can be overridden of a bottleneck with PHM layers."""

    reduction_factor: int = 32
    non_linearity: str = "gelu"
    phm_dim: int = 4
    """Number of rules n; divides the hidden and the bottleneck size."""


@dataclass(frozen=True, kw_only=True)
class BottleneckMethod(BlockMethod[BottleneckConfig]):
    """A bottleneck adapter in every block."""

    placement: Placement
    config: BottleneckConfig
    unmergeable: str = "the activation inside a bottleneck cannot be folded into linear layers"

    def attach(
        self, model: PreTrainedModel, blocks: list[Block], configuration: Configuration[BottleneckConfig]
    ) -> None:
        """Put a bottleneck into the chosen layers."""
        maker = bottleneck_maker(configuration, model)

        def make() -> Bottleneck:
            bottleneck = maker()
            if self.placement.starts_at_zero:
                bottleneck.start_at_zero()
            return bottleneck

        adapt(blocks, self.placement, configuration, make, scaling=configuration.values.scaling)


def adapt(
    blocks: list[Block],
    placement: Placement,
    configuration: Configuration[BottleneckConfig],
    make: Callable[[], nn.Module],
    *,
    scaling: float,
) -> dict[int, AdaptedOutput]:
    """Put an adapter where `placement` says, in the configured layers; return that of the feed-forward, by layer."""
    from peftbench.methods.paper.bottleneck_modules import AdaptedOutput
    from peftbench.methods.paper.replacement import Note, NotedInput

    def adapted(block: Block, sub_block: SubBlock) -> AdaptedOutput:
        residual = None if placement.reads == "output" else Note()
        if residual is not None:
            block.replace(sub_block.reads, partial(NotedInput, note=residual))
        like = next(block.module.parameters())
        output = AdaptedOutput(
            block.part(sub_block.ends),
            make().to(device=like.device, dtype=like.dtype),
            placement.reads,
            residual=residual,
            norm=block.part(sub_block.norm) if sub_block.norm else None,
            scaling=scaling,
        )
        block.replace(sub_block.ends, lambda _: output)
        return output

    try:
        layers = layer_numbers(configuration.values.layers, len(blocks))
    except ValueError as error:
        raise configuration.refusal("layers", str(error)) from error
    outputs = {}
    for layer in layers:
        block = blocks[layer]
        _drop_in_modules(block)
        if placement.after_attention:
            adapted(block, block.stack.attention)
        outputs[layer] = adapted(block, block.stack.feed_forward)
    return outputs


def _drop_in_modules(block: Block) -> None:
    """Let modules drop each h where the block does so itself: an adapter reads what is dropped, and adds to it."""
    from peftbench.methods.paper.replacement import Dropped

    if attribute := block.stack.dropout:
        probability = getattr(block.module, attribute)
        for sub_block in block.stack.sub_blocks:
            block.replace(
                sub_block.ends,
                partial(Dropped, block=block.module, attribute=attribute, probability=probability),
            )


def bottleneck_maker(
    configuration: Configuration[BottleneckConfig], model: PreTrainedModel
) -> Callable[[], Bottleneck]:
    """Return what makes one bottleneck after the other for `model`; PHM ones share one rule.

    Raises:
        UserError: an override does not fit the hidden size, or the activation is unknown.
        UnsupportedError: a default does not fit the hidden size.
    """
    import torch
    from torch import nn
    from transformers.activations import ACT2FN

    from peftbench.methods.paper.bottleneck_modules import Bottleneck, PHMLinear, dense_linear

    values = configuration.values
    hidden_size: int = model.config.get_text_config().hidden_size
    size = hidden_size // configuration.require_divisor("reduction_factor", hidden_size, "the model's hidden size")
    if values.non_linearity not in ACT2FN:
        raise unknown("non-linearity", values.non_linearity, ACT2FN)
    linear: Callable[[int, int], nn.Module] = dense_linear
    if isinstance(values, CompacterConfig):
        configuration.require_divisor("phm_dim", hidden_size, "the model's hidden size")
        n = configuration.require_divisor("phm_dim", size, "the bottleneck size")
        rule = nn.init.normal_(torch.empty(n, n, n), std=1e-4)
        # It gets device and dtype at once: a parameter moved with each of its modules is not always shared afterwards.
        linear = partial(PHMLinear, rule=nn.Parameter(rule.to(next(model.base_model.parameters()))))
    return lambda: Bottleneck(linear(hidden_size, size), ACT2FN[values.non_linearity], linear(size, hidden_size))


HOULSBY: Final = Placement(reads="output", after_attention=True)
PFEIFFER: Final = Placement(reads="norm", after_attention=False)

METHODS: Final = (
    BottleneckMethod(
        name="houlsby",
        summary="bottleneck after the attention and after the feed-forward",
        source="Houlsby et al. 2019, arXiv 1902.00751, section 2.1",
        placement=HOULSBY,
        config=BottleneckConfig(non_linearity="swish"),
    ),
    BottleneckMethod(
        name="pfeiffer",
        summary="bottleneck after the feed-forward and its layer norm",
        source="Pfeiffer et al. 2021, arXiv 2005.00247",
        placement=PFEIFFER,
        config=BottleneckConfig(),
    ),
    BottleneckMethod(
        name="houlsby-parallel",
        summary="bottlenecks beside the attention and beside the feed-forward",
        source="AI4Bharat/adapter-efficiency: HoulsbyConfig(is_parallel=True) of adapters",
        placement=Placement(reads="residual", after_attention=True),
        config=BottleneckConfig(non_linearity="swish"),
    ),
    BottleneckMethod(
        name="pfeiffer-parallel",
        summary="bottleneck beside the feed-forward",
        source="AI4Bharat/adapter-efficiency: PfeifferConfig(is_parallel=True) of adapters",
        placement=Placement(reads="residual", after_attention=False),
        config=BottleneckConfig(),
    ),
    BottleneckMethod(
        name="par-bn",
        summary="wide scaled bottleneck beside the feed-forward, zero at first",
        source="He et al. 2022, arXiv 2110.04366, section 3.3",
        placement=Placement(reads="residual", after_attention=False, starts_at_zero=True),
        config=BottleneckConfig(reduction_factor=2, scaling=4.0),
    ),
    BottleneckMethod(
        name="compacter",
        summary="Houlsby's bottlenecks with PHM layers that share their rule",
        source="Karimi Mahabadi et al. 2021, arXiv 2106.04647, section 3",
        placement=HOULSBY,
        config=CompacterConfig(),
    ),
    BottleneckMethod(
        name="compacter++",
        summary="Pfeiffer's bottleneck with PHM layers that share their rule",
        source="Karimi Mahabadi et al. 2021, arXiv 2106.04647, section 3",
        placement=PFEIFFER,
        config=CompacterConfig(),
    ),
)
