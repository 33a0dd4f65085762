"""Holds the paper's methods to the values that tools/golden/make.py took from the `adapters` library."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

if TYPE_CHECKING:
    from tests.unit.methods.conftest import Lab

GOLDEN = Path(__file__).parents[2] / "golden"
TOLERANCE = 1e-6

RENAMED = (
    (r"\.adapter_fusion_layer\.[\d,]+\.", ".adapter."),
    (r"\.adapters\.golden\.", ".adapter."),
    (r"\.adapters\.(\d+)\.", r".adapter.adapters.\1."),
    (r"\.adapter_down\.0\.", ".down."),
    (r"\.adapter_up\.", ".up."),
    (r"\.W_(left|right)$", r".\1"),
    (r"\.b$", ".bias"),
    (r"\.layer\.0\.attention\.self\.prefix_tuning\.pool\.prefix_tunings\.golden\.self_prefix\.", ".prefix."),
    (r"\.wte\.", ".tokens."),
    (r"\.control_trans\.0\.", ".down."),
    (r"\.control_trans\.2\.", ".up."),
)
"""Patterns of the library's parameter names, and what ours have in their place."""


def read(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(GOLDEN / f"{name}.safetensors", framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118 # no dict


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def our_name(name: str, model: nn.Module) -> str:
    if name.endswith(".phm_rule"):
        return next(ours for ours, _ in model.named_parameters() if ours.endswith(".rule"))
    for pattern, ours in RENAMED:
        name = re.sub(pattern, ours, name)
    return name


@pytest.fixture(params=["bert", "xlm-roberta"])
def architecture(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_outputs_and_gradients_are_those_of_adapters(architecture: str, attention: str, paper: str, lab: Lab) -> None:
    plain, plain_about = read(architecture)
    golden, about = read(f"{architecture}-{paper}")
    method = lab.methods[paper]

    model = lab.encoder(attention=attention, **plain_about["config"])
    model.load_state_dict(part(plain, "weight/"), strict=True)
    batch = {name: plain[name] for name in ("input_ids", "attention_mask", "labels")}
    plain_logits = model(**batch).logits
    model = method.apply(model, lab.application(about["overrides"]))
    weights = {our_name(name, model): tensor for name, tensor in part(golden, "weight/").items()}
    parameters = dict(model.named_parameters())
    plain_names = set(part(plain, "weight/"))
    assert set(weights) == {name for name in parameters if name.replace(".inner.", ".") not in plain_names}
    with torch.no_grad():
        for name, tensor in weights.items():
            assert parameters[name].shape == tensor.shape
            parameters[name].copy_(tensor)

    output = model(**batch)
    output.loss.backward()

    assert (plain_logits - golden["logits"]).abs().max() > 1e-2, "the method must show in the golden values"
    assert (output.logits - golden["logits"]).abs().max() <= TOLERANCE
    assert (output.loss - golden["loss"]).abs() <= TOLERANCE
    gradients = {our_name(name, model): tensor for name, tensor in part(golden, "gradient/").items()}
    assert gradients.keys() == {name for name, parameter in parameters.items() if parameter.grad is not None}
    for name, gradient in gradients.items():
        torch.testing.assert_close(parameters[name].grad, gradient, rtol=0, atol=TOLERANCE)
    if "regularisation" in golden:
        torch.testing.assert_close(method.auxiliary_loss(model), golden["regularisation"], rtol=1e-6, atol=0)
