"""Tiny models, and the paper's methods in sizes that fit them."""

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any, Final
from unittest.mock import create_autospec

import pytest
import torch
from tools.backbones import ARCHITECTURES
from transformers import AutoConfig, AutoModelForMultipleChoice, AutoModelForSequenceClassification, PreTrainedModel

from peftbench.methods.base import NO_OVERRIDES, Application, Method
from peftbench.methods.paper import adapter_drop, bottleneck, fusion, prefix
from peftbench.records.ids import Scalar
from peftbench.tasks.base import Batch, Task

FITTING: Mapping[str, Mapping[str, Scalar]] = {
    "houlsby": {},
    "pfeiffer": {},
    "houlsby-parallel": {},
    "pfeiffer-parallel": {},
    "par-bn": {},
    "compacter": {"reduction_factor": 4},
    "compacter++": {"reduction_factor": 4},
    "prefix": {"prefix_length": 5, "bottleneck_size": 8},
    "adapterdrop": {},
    "adapterfusion": {"adapters": 2},
}
"""Overrides that make a method fit a hidden size of 32, by method."""


SMALL: Mapping[str, Mapping[str, Any]] = {one.model_type: one.config for one in ARCHITECTURES}
EXPERTS: Mapping[str, object] = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
GROUPED: Mapping[str, object] = {"num_key_value_heads": 2, "head_dim": 12}
"""Fewer keys than queries, whose width is not the hidden size over their number."""

SHAPES: Mapping[str, Mapping[str, object]] = {
    "albert": {"num_hidden_layers": 4, "num_hidden_groups": 2},
    "bart": {"decoder_layers": 3, "decoder_attention_heads": 2},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"position_buckets": 4},
    "eurobert": GROUPED,
    "gemma": GROUPED,
    "gemma2": {**GROUPED, "sliding_window": 4},
    "gemma3_text": {**GROUPED, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma3": {
        "text_config": {**SMALL["gemma3"]["text_config"], **GROUPED, "initializer_range": 0.2, "pad_token_id": 0}
    },
    # Feed-forward after attention, not beside it: both have the same anatomy.
    "gpt_neox": {"use_parallel_residual": False},
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 4},
    "mixtral": {**GROUPED, "num_local_experts": 2},
    "modernbert": {
        "local_attention": 4,
        "layer_types": ["full_attention", "sliding_attention"],
        "attention_dropout": 0.1,
        "mlp_dropout": 0.1,
    },
    "mt5": {"d_kv": 6},
    "olmo2": {"num_key_value_heads": 2},
    "qwen2_moe": {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen3": GROUPED,
    "qwen3_moe": {**GROUPED, **EXPERTS},
    "roc_bert": {"enable_pronunciation": False, "enable_shape": False},
    "smollm3": {"num_key_value_heads": 2},
    "stablelm": {"num_key_value_heads": 2},
    "t5": {"d_kv": 6},
    "umt5": {**SMALL["t5"], "d_kv": 6, "eos_token_id": 2},
}
"""What a tiny configuration of an architecture needs beside that of tools/backbones.py, or other than that."""

EAGER: Final = ("deberta", "deberta-v2", "gemma2", "gpt_neo", "megatron-bert", "mpnet", "rembert")
"""Architectures that transformers has only this attention of."""


@cache
def prototype(
    model_type: str, attention: str, changes: tuple[tuple[str, object], ...], *, choices: bool
) -> PreTrainedModel:
    shape = {
        "vocab_size": 160,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        **SMALL.get(model_type, {}),
        "eos_token_id": 2,
        "initializer_range": 0.2,
        "num_labels": 3,
        **SHAPES.get(model_type, {}),
        **dict(changes),
    }
    if shape["pad_token_id"] is None:
        shape["pad_token_id"] = 0  # a model of classes needs one
    config = AutoConfig.for_model(model_type, **shape)
    auto = AutoModelForMultipleChoice if choices else AutoModelForSequenceClassification
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return auto.from_config(config, attn_implementation=attention).eval()


class Lab:
    """Makes tiny models, and applies the paper's methods to them."""

    def __init__(self) -> None:
        known = (*bottleneck.METHODS, *prefix.METHODS, *adapter_drop.METHODS, *fusion.METHODS)
        self.methods: dict[str, Method] = {method.name: method for method in known}
        self.task: Task = create_autospec(Task, instance=True)

    @staticmethod
    def encoder(
        model_type: str = "bert", *, attention: str = "sdpa", choices: bool = False, **changes: object
    ) -> PreTrainedModel:
        """Make a model in evaluation mode, equal to all others of its shape."""
        if model_type in EAGER:
            attention = "eager"
        return copy.deepcopy(prototype(model_type, attention, tuple(changes.items()), choices=choices))

    @staticmethod
    def golden(config: Mapping[str, object], attention: str) -> PreTrainedModel:
        """Make a model of exactly this configuration, in evaluation mode."""
        shape = dict(config)
        model_type = shape.pop("model_type")
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(
            AutoConfig.for_model(model_type, **shape), attn_implementation=attention
        )
        return model.eval()

    def application(self, overrides: Mapping[str, Scalar] = NO_OVERRIDES, seed: int = 0) -> Application:
        return Application(task=self.task, overrides=overrides, seed=seed)

    def fitting(self, name: str, seed: int = 0, **overrides: Scalar) -> Application:
        """Return an application whose overrides make the method fit a hidden size of 32."""
        return self.application({**FITTING[name], **overrides}, seed)

    def apply(
        self, name: str, overrides: Mapping[str, Scalar] = NO_OVERRIDES, seed: int = 0, **changes: object
    ) -> PreTrainedModel:
        """Apply a method to an encoder."""
        model: PreTrainedModel = self.methods[name].apply(
            self.encoder(**changes),  # type: ignore[arg-type] # object: passed on as they come
            self.application(overrides, seed),
        )
        return model

    def apply_fitting(self, name: str, seed: int = 0, **changes: object) -> PreTrainedModel:
        """Apply a method to an encoder, in a size that fits a hidden size of 32."""
        return self.apply(name, FITTING[name], seed, **changes)

    @staticmethod
    def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
        return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

    def perturb(self, model: torch.nn.Module) -> None:
        """Move what is trained off its initial values, which may be zero."""
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in self.trained(model).values():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `paper` once for each of the paper's methods, by name."""
    if "paper" in metafunc.fixturenames:
        metafunc.parametrize("paper", FITTING)


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()


@pytest.fixture
def batch() -> Batch:
    """Three sequences of 9 tokens, the second of them padded."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(5, 100, (3, 9), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 6:] = 0
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": torch.tensor([0, 2, 1])}
