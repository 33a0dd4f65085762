"""Full fine-tuning, the head alone and the biases alone train exactly what they say."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.base import Application
from peftbench.methods.basic import METHODS, SelectiveMethod
from peftbench.records.ids import Scalar
from peftbench.tasks.base import Task

BY_NAME = {method.name: method for method in METHODS}
HEAD = {"classifier.weight", "classifier.bias"}


def encoder(model_type: str = "bert", **changes: Any) -> Any:  # noqa: ANN401
    config = AutoConfig.for_model(
        model_type,
        vocab_size=100,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=2,
        **changes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_config(config).eval()


def application(**overrides: Scalar) -> Application:
    return Application(task=create_autospec(Task, instance=True), overrides=overrides)


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def logits(model: Any) -> torch.Tensor:  # noqa: ANN401
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=torch.arange(12).reshape(2, 6)).logits
    return result


def test_full_trains_everything() -> None:
    model = encoder()
    names = {name for name, _ in model.named_parameters()}
    assert trained(BY_NAME["full"].apply(model, application())) == names


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_head_trains_the_head_alone(model_type: str) -> None:
    model = encoder(model_type, pad_token_id=1)
    expected = {name for name, _ in model.named_parameters() if name.startswith("classifier.")}
    assert HEAD & expected or "classifier.dense.weight" in expected
    assert trained(BY_NAME["head"].apply(model, application())) == expected


def test_bitfit_trains_every_bias_and_the_head() -> None:
    model = encoder()
    expected = {name for name, _ in model.named_parameters() if name.endswith(".bias")} | HEAD
    assert "bert.embeddings.LayerNorm.bias" in expected
    assert trained(BY_NAME["bitfit"].apply(model, application())) == expected


def test_applying_thaws_what_was_frozen_before() -> None:
    model = BY_NAME["head"].apply(encoder(), application())
    assert trained(BY_NAME["full"].apply(model, application())) == {name for name, _ in model.named_parameters()}


def test_bitfit_is_refused_by_a_backbone_without_biases() -> None:
    model = encoder("modernbert", pad_token_id=0, norm_bias=False)
    with pytest.raises(UnsupportedError, match=r"^bitfit: the backbone of modernbert has nothing that it trains$"):
        BY_NAME["bitfit"].apply(model, application())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_loaded_model_computes_the_same(method: SelectiveMethod, tmp_path: Path) -> None:
    model = method.apply(encoder(), application())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in trained(model):
                parameter.add_(0.1)
    method.save(model, tmp_path)

    loaded = method.load(encoder(), application(), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert torch.equal(logits(loaded), logits(model))
    assert not torch.equal(logits(loaded), logits(encoder()))
    assert trained(loaded) == trained(model)


def test_the_checkpoint_of_another_method_is_refused(tmp_path: Path) -> None:
    BY_NAME["head"].save(BY_NAME["head"].apply(encoder(), application()), tmp_path)
    with pytest.raises(UserError, match=r"was not saved by bitfit from such a model: .* the first is bert"):
        BY_NAME["bitfit"].load(encoder(), application(), tmp_path)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_there_is_nothing_to_configure_disable_or_merge(method: SelectiveMethod) -> None:
    with pytest.raises(UserError, match=f"^{method.name} has nothing to configure, but was given r, alpha$"):
        method.apply(encoder(), application(r=8, alpha=1))
    model = method.apply(encoder(), application())
    operations: Sequence[Any] = (method.merge, method.merge_in_place, method.disabled, method.add_second)
    for operation in operations:
        with pytest.raises(UnsupportedError, match=f"^{method.name} "):
            operation(model)
    assert not method.mergeable
