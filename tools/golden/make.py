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
from functools import partial
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
    AutoConfig,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.albert.modeling_albert import AlbertAttention
from transformers.models.t5.modeling_t5 import T5Attention

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "num_labels": 3,
}
SMALL = {**SHAPE, "hidden_size": 16, "intermediate_size": 24}
"""For the architectures that are there for their anatomy alone."""
GROUPED = {**SMALL, "num_key_value_heads": 2, "pad_token_id": 0}
ENCODER_DECODER = {"vocab_size": 40, "d_model": 16, "num_labels": 3, "eos_token_id": 2, "pad_token_id": 0}
ARCHITECTURES = {
    "bert": SHAPE,
    "xlm-roberta": SHAPE,
    # Two groups of one layer each: a layer's weights serve twice, as its adapter's do.
    "albert": {**SMALL, "num_hidden_layers": 4, "num_hidden_groups": 2, "embedding_size": 8},
    "bart": {
        **ENCODER_DECODER,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "max_position_embeddings": 24,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": None,
    },
    "deberta-v2": {
        **SMALL,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 4,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "conv_kernel_size": 3,
    },
    "distilbert": {
        "vocab_size": 40,
        "dim": 16,
        "hidden_dim": 24,
        "n_layers": 2,
        "n_heads": 4,
        "max_position_embeddings": 24,
        "num_labels": 3,
    },
    "electra": {**SMALL, "embedding_size": 8},
    "gpt2": {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 24, "num_labels": 3}
    | {"pad_token_id": 0},
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 4},
    "t5": {
        **ENCODER_DECODER,
        "d_kv": 6,
        "d_ff": 24,
        "num_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "decoder_start_token_id": 0,
    },
}
ATTENTION = {"bert": "sdpa", "xlm-roberta": "sdpa"}
"""Where eager does not do: with sdpa, adapters 1.3.0 lets no token of a decoder attend to a prefix."""
EVERY_METHOD = ("bert", "xlm-roberta")
FORMULAS = ("houlsby", "pfeiffer", "houlsby-parallel", "prefix", "adapterfusion")
"""The methods that differ in what they do to a block; the rest differ in what they put there."""
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
            if name.endswith("weight") and parameter.dim() == 1:
                parameter.add_(1.0)


def batch(config: PretrainedConfig) -> dict[str, torch.Tensor]:
    """Three sequences, two of them padded, each with one end where a head reads it there."""
    input_ids = torch.randint(4, SHAPE["vocab_size"], (3, 9), generator=torch.Generator().manual_seed(0))
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 5:] = attention_mask[2, 8:] = 0
    if config.is_encoder_decoder:
        input_ids[range(3), attention_mask.sum(1) - 1] = config.eos_token_id
    input_ids[attention_mask == 0] = config.pad_token_id
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": torch.tensor([0, 2, 1])}


def mend(model: PreTrainedModel) -> None:
    """Undo two faults of adapters 1.3.0, so that the values follow the methods' definitions.

    ALBERT: the adapter of the attention is handed i as h, and h as i.
    T5: with a prefix of P keys, each token's own key is P tokens away from it, for the relative positions.
    """
    for module in model.modules():
        if isinstance(module, AlbertAttention):
            adapter = module.attention_adapters
            adapter.forward = partial(swapped, adapter.forward)
        if isinstance(module, T5Attention) and module.has_relative_attention_bias:
            module.compute_bias = partial(bias_of_tokens, module.compute_bias)


def swapped(forward: Callable[..., torch.Tensor], i: torch.Tensor, h: torch.Tensor, norm: object) -> torch.Tensor:
    """Call with h and i in their places."""
    return forward(h, i, norm)


def bias_of_tokens(
    compute_bias: Callable[..., torch.Tensor], queries: int, keys: int, **options: object
) -> torch.Tensor:
    """Return the bias of the tokens' keys, [1, heads, queries, keys]; a prefix before them has none."""
    bias = compute_bias(queries, queries, **options)
    return torch.nn.functional.pad(bias, (keys - queries, 0))


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
    for architecture, shape in ARCHITECTURES.items():
        config = AutoConfig.for_model(architecture, **shape)
        plain = AutoModelForSequenceClassification.from_config(
            config, attn_implementation=ATTENTION.get(architecture, "eager")
        )
        randomise(plain, seed=1, scale=0.1)
        state = {name: parameter.detach() for name, parameter in plain.named_parameters()}
        inputs = batch(config)
        tensors = {**{f"weight/{name}": tensor for name, tensor in state.items()}, **inputs}
        write(folder / f"{architecture}.safetensors", tensors, config={"model_type": architecture, **shape})
        for method in METHODS if architecture in EVERY_METHOD else FORMULAS:
            model = AutoModelForSequenceClassification.from_config(
                config, attn_implementation=ATTENTION.get(architecture, "eager")
            )
            adapters.init(model)
            METHODS[method].attach(model)
            mend(model)
            randomise(model, seed=2, scale=0.3)
            model.load_state_dict(state, strict=False)
            tensors = values(model.eval(), inputs, set(state))
            write(folder / f"{architecture}-{method}.safetensors", tensors, overrides=METHODS[method].overrides)


if __name__ == "__main__":
    main()
