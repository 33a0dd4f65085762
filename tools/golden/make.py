"""Makes the golden values: what the `adapters` library computes, for our own modules to be held to.

It runs in an environment of its own, since `adapters` needs transformers 4:

    python -m venv golden && golden/bin/pip install -r tools/golden/requirements.txt
    golden/bin/python tools/golden/make.py tests/unit/golden

Each architecture has one file with its weights and a batch, and one file a method with the method's weights, the
logits, the loss and the gradients, all in float32 and evaluation mode, all weights random (none at an initial zero).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import adapters
import torch
from adapters import (
    AdapterConfig,
    BnConfig,
    CompacterConfig,
    CompacterPlusPlusConfig,
    DoubleSeqBnConfig,
    Fuse,
    ParBnConfig,
    PrefixTuningConfig,
    SeqBnConfig,
)
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "num_labels": 3,
}
ARCHITECTURES = {
    "bert": (BertConfig, BertForSequenceClassification),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForSequenceClassification),
}
NAME = "golden"


@dataclass(frozen=True)
class Golden:
    """A method: how `adapters` puts it on a model, and the overrides that make ours the same."""

    attach: Callable[[PreTrainedModel], None]
    overrides: dict[str, int]


def single(config: AdapterConfig, **overrides: int) -> Golden:
    """One adapter."""

    def attach(model: PreTrainedModel) -> None:
        model.add_adapter(NAME, config=config)
        model.train_adapter(NAME)

    return Golden(attach, overrides)


def bottleneck(config: type[BnConfig], *, reduction_factor: int = 4, **options: bool) -> Golden:
    """One bottleneck adapter, wide enough for the tiny shape."""
    return single(config(reduction_factor=reduction_factor, **options), reduction_factor=reduction_factor)


def drop_lowest(model: PreTrainedModel) -> None:
    """Pfeiffer's adapters, those of layer 0 skipped."""
    model.add_adapter(NAME, config=SeqBnConfig(reduction_factor=4))
    model.train_adapter(NAME)
    model.set_active_adapters(NAME, skip_layers=[0])


def fuse(model: PreTrainedModel) -> None:
    """AdapterFusion over three of Pfeiffer's adapters."""
    names = ["0", "1", "2"]
    for name in names:
        model.add_adapter(name, config=SeqBnConfig(reduction_factor=4))
    setup = Fuse(*names)
    model.add_adapter_fusion(setup)
    model.train_adapter_fusion(setup)


METHODS = {
    "houlsby": bottleneck(DoubleSeqBnConfig),
    "pfeiffer": bottleneck(SeqBnConfig),
    "houlsby-parallel": bottleneck(DoubleSeqBnConfig, is_parallel=True),
    "pfeiffer-parallel": bottleneck(SeqBnConfig, is_parallel=True),
    "par-bn": bottleneck(ParBnConfig, reduction_factor=2),
    "compacter": bottleneck(CompacterConfig),
    "compacter++": bottleneck(CompacterPlusPlusConfig),
    "prefix": single(
        PrefixTuningConfig(flat=False, prefix_length=5, bottleneck_size=8), prefix_length=5, bottleneck_size=8
    ),
    "adapterdrop": Golden(drop_lowest, {"reduction_factor": 4, "dropped_at_inference": 1}),
    "adapterfusion": Golden(fuse, {"reduction_factor": 4, "adapters": 3}),
}


def randomise(model: torch.nn.Module, seed: int, scale: float) -> None:
    """Fill every parameter with values that show in the output: layer norms about one, all else about zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
            if name.endswith("LayerNorm.weight"):
                parameter.add_(1.0)


def batch(pad: int) -> dict[str, torch.Tensor]:
    """Three sequences, two of them padded."""
    input_ids = torch.randint(4, SHAPE["vocab_size"], (3, 9), generator=torch.Generator().manual_seed(0))
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 5:] = attention_mask[2, 8:] = 0
    input_ids[attention_mask == 0] = pad
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": torch.tensor([0, 2, 1])}


def values(model: PreTrainedModel, inputs: dict[str, torch.Tensor], plain: set[str]) -> dict[str, torch.Tensor]:
    """Return the weights that `model` has beyond the `plain` ones, its outputs, and the gradients of what it trains."""
    output = model(**inputs)
    output.loss.backward()
    tensors = {"logits": output.logits.detach(), "loss": output.loss.detach()}
    for name, parameter in model.named_parameters():
        if name not in plain:
            tensors[f"weight/{name}"] = parameter.detach()
        if parameter.requires_grad and parameter.grad is not None:
            tensors[f"gradient/{name}"] = parameter.grad
    regularisation = model.base_model.get_fusion_regularization_loss()
    if regularisation is not None:
        tensors["regularisation"] = regularisation.detach()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def write(path: Path, tensors: dict[str, torch.Tensor], **about: object) -> None:
    """Write one file, always with the same bytes: safetensors keeps several metadata entries in no fixed order."""
    made_by = {name: version(name) for name in ("adapters", "transformers", "torch")}
    save_file(tensors, path, metadata={"about": json.dumps({**about, "made_by": made_by})})
    print(f"{path}: {len(tensors)} tensors")


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for architecture, (config_class, model_class) in ARCHITECTURES.items():
        config = config_class(**SHAPE)
        plain = model_class(config)
        randomise(plain, seed=1, scale=0.1)
        state = {name: parameter.detach() for name, parameter in plain.named_parameters()}
        inputs = batch(config.pad_token_id)
        tensors = {**{f"weight/{name}": tensor for name, tensor in state.items()}, **inputs}
        write(folder / f"{architecture}.safetensors", tensors, config={"model_type": architecture, **SHAPE})
        for method, golden in METHODS.items():
            model = model_class(config)
            adapters.init(model)
            golden.attach(model)
            randomise(model, seed=2, scale=0.3)
            model.load_state_dict(state, strict=False)
            tensors = values(model.eval(), inputs, set(state))
            write(folder / f"{architecture}-{method}.safetensors", tensors, overrides=golden.overrides)


if __name__ == "__main__":
    main()
