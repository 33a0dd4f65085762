"""Bottleneck adapters: Houlsby, Pfeiffer, their parallel forms, par_bn and Compacter, all of one mechanism.

Each computes LN(h + s A(z) + i) in an output module of a block (`AdaptedOutput`). They differ in what A reads (z), in
where it sits, in s, and in whether its layers are dense or PHM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import unknown
from peftbench.methods.paper import encoder
from peftbench.methods.paper.encoder_method import EncoderMethod

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from peftbench.methods.configuration import Configuration
    from peftbench.methods.paper.bottleneck_modules import Bottleneck, Reads


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a bottleneck sits in a block, and what it reads."""

    reads: Reads
    after_attention: bool
    """Whether the attention's output module has one too, not only the feed-forward's."""
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
class BottleneckMethod(EncoderMethod[BottleneckConfig]):
    """A bottleneck adapter in every block."""

    placement: Placement
    config: BottleneckConfig
    unmergeable: str = "the activation inside a bottleneck cannot be folded into linear layers"

    def attach(self, model: PreTrainedModel, blocks: list[Any], configuration: Configuration[BottleneckConfig]) -> None:
        """Put a bottleneck into the output modules of the chosen layers."""
        del model
        maker = bottleneck_maker(configuration, blocks[0].output.dense.weight)

        def make() -> Bottleneck:
            bottleneck = maker()
            if self.placement.starts_at_zero:
                bottleneck.start_at_zero()
            return bottleneck

        adapt_outputs(blocks, self.placement, configuration, make, scaling=configuration.values.scaling)


def adapt_outputs(
    blocks: list[Any],
    placement: Placement,
    configuration: Configuration[BottleneckConfig],
    make: Callable[[], nn.Module],
    *,
    scaling: float,
) -> None:
    """Replace the output modules that `placement` names, in the configured layers, by ones with an adapter."""
    from peftbench.methods.paper.bottleneck_modules import AdaptedOutput

    try:
        layers = encoder.layer_numbers(configuration.values.layers, len(blocks))
    except ValueError as error:
        raise configuration.refusal("layers", str(error)) from error
    for layer in layers:
        block = blocks[layer]
        for parent in (block.attention, block) if placement.after_attention else (block,):
            parent.output = AdaptedOutput(parent.output, make(), placement.reads, scaling)


def bottleneck_maker(configuration: Configuration[BottleneckConfig], weight: torch.Tensor) -> Callable[[], Bottleneck]:
    """Return what makes one bottleneck after the other; PHM ones share one rule.

    Args:
        configuration: of the bottlenecks.
        weight: of an output module's dense layer, [hidden, inner]; the rule gets its device and dtype at once, since
            a parameter that is moved with each of its modules is not always shared afterwards.

    Raises:
        UserError: an override does not fit the hidden size, or the activation is unknown.
        UnsupportedError: a default does not fit the hidden size.
    """
    import torch
    from torch import nn
    from transformers.activations import ACT2FN

    from peftbench.methods.paper.bottleneck_modules import Bottleneck, PHMLinear, dense_linear

    values = configuration.values
    hidden_size = weight.shape[0]
    size = hidden_size // configuration.require_divisor("reduction_factor", hidden_size, "the model's hidden size")
    if values.non_linearity not in ACT2FN:
        raise unknown("non-linearity", values.non_linearity, ACT2FN)
    linear: Callable[[int, int], nn.Module] = dense_linear
    if isinstance(values, CompacterConfig):
        configuration.require_divisor("phm_dim", hidden_size, "the model's hidden size")
        n = configuration.require_divisor("phm_dim", size, "the bottleneck size")
        rule = nn.init.normal_(torch.empty(n, n, n), std=1e-4)
        linear = partial(PHMLinear, rule=nn.Parameter(rule.to(weight)))
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
