"""AdapterFusion: learns, in every block, how to mix adapters that were trained on other tasks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from peftbench.errors import UserError
from peftbench.methods import checkpoint
from peftbench.methods.paper.bottleneck import PFEIFFER, BottleneckConfig, BottleneckMethod, adapt, bottleneck_maker

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from peftbench.methods.configuration import Configuration
    from peftbench.methods.paper.blocks import Block
    from peftbench.methods.paper.fusion_modules import Fusion

REGULARISATION: Final = 0.01
"""Weight of the squared distance of the value matrices from the identity."""

DROPOUTS: Final = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "dropout_rate")
"""Names that configurations have for the dropout of attention, the first that is there counts; none: no dropout."""


@dataclass(frozen=True, slots=True)
class FusionConfig(BottleneckConfig):
    """What can be overridden of AdapterFusion."""

    adapters: int = 6
    """Number of adapters that are mixed."""
    paths: str = ""
    """Folders that `pfeiffer` saved its adapters in, joined by the system's path separator; empty: random adapters."""


@dataclass(frozen=True, kw_only=True)
class AdapterFusion(BottleneckMethod):
    """Attention over N frozen Pfeiffer adapters in every block; only it and the head are trained."""

    def attach(
        self, model: PreTrainedModel, blocks: list[Block], configuration: Configuration[BottleneckConfig]
    ) -> None:
        """Put a fusion over N adapters, random or loaded, into each block."""
        from peftbench.methods.paper.fusion_modules import Fusion

        values = cast("FusionConfig", configuration.values)
        folders = [Path(folder) for folder in values.paths.split(os.pathsep) if folder]
        count = configuration.require_at_least("adapters", 2)
        if folders and len(folders) != count:
            raise configuration.refusal("paths", f"{len(folders)} folders are given for {count} adapters")
        config = model.config.get_text_config()
        make_adapter = bottleneck_maker(configuration, model)

        def make() -> Fusion:
            return Fusion(
                (make_adapter() for _ in range(count)),
                hidden_size=config.hidden_size,
                scaling=values.scaling,
                dropout=next((getattr(config, name) for name in DROPOUTS if hasattr(config, name)), 0.0),
            )

        adapt(blocks, self.placement, configuration, make, scaling=1.0)
        for number, folder in enumerate(folders):
            _load_adapter(model, number, folder, values)

    def about(self, model: torch.nn.Module) -> Mapping[str, str]:
        """Return what a checkpoint belongs to: the adapters, which it does not hold, wherever they came from."""
        about = dict(super().about(model))
        configuration = json.loads(about["configuration"])
        del configuration["paths"]
        return {**about, "configuration": json.dumps(configuration, sort_keys=True), "adapters": _digest(model)}

    def auxiliary_loss(self, model: torch.nn.Module) -> torch.Tensor:
        """Return 0.01 times the sum over the layers of the squared entries of I - W_v."""
        from peftbench.methods.paper.fusion_modules import distance_from_identity

        return REGULARISATION * distance_from_identity(_fusions(model))


def _digest(model: torch.nn.Module) -> str:
    """Return a short digest of all frozen adapters of a model."""
    import torch

    sha = hashlib.sha256()
    for fusion in _fusions(model):
        for parameter in fusion.adapters.parameters():
            sha.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def _fusions(model: torch.nn.Module) -> list[Fusion]:
    from peftbench.methods.paper.fusion_modules import Fusion

    return [module for module in model.modules() if isinstance(module, Fusion)]


def _load_adapter(model: torch.nn.Module, number: int, folder: Path, values: FusionConfig) -> None:
    """Fill the adapters of one number, in all layers, with those that `pfeiffer` saved."""
    import torch

    from peftbench.methods.paper.fusion_modules import Fusion

    path = folder / checkpoint.FILE
    tensors, metadata = checkpoint.read(path)
    saved = json.loads(metadata.get("configuration", "{}"))
    wanted = {name: value for name, value in asdict(values).items() if name not in {"adapters", "paths"}}
    if metadata.get("method") != "pfeiffer" or saved != wanted:
        raise UserError(f"{path}: saved from {metadata.get('method')} with {saved}, not from pfeiffer with {wanted}")
    expected = {
        f"{name}.{parameter_name}": parameter
        for name, module in model.named_modules()
        if isinstance(module, Fusion)
        for parameter_name, parameter in module.adapters[number].named_parameters()
    }
    bodies = {name: tensor for name, tensor in tensors.items() if ".adapter." in name}
    checkpoint.require_same_names(path, bodies, expected)
    with torch.no_grad():
        for name, parameter in expected.items():
            checkpoint.copy_into(parameter, bodies[name], path, name)


METHODS: Final = (
    AdapterFusion(
        name="adapterfusion",
        summary="attention over six frozen Pfeiffer adapters",
        source="Pfeiffer et al. 2021, arXiv 2005.00247, section 3.2",
        placement=PFEIFFER,
        config=FusionConfig(),
    ),
)
