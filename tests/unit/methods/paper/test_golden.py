"""Holds the paper's methods to the values that tools/golden/make.py took from the `adapters` library."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from tests.unit.methods.conftest import FITTING
from torch import Tensor

from peftbench.methods.paper.anatomies import ANATOMIES
from peftbench.methods.paper.blocks import blocks_of, stack_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.unit.methods.conftest import Lab
    from transformers import PreTrainedModel

    from peftbench.methods.paper.blocks import Block

GOLDEN = Path(__file__).parents[2] / "golden"
TOLERANCE = 1e-6

RENAMED = (
    (r"^(adapters\.golden|adapter_fusion_layer\.[\d,]+)\.", ""),
    (r"\badapter_down\.0\.", "down."),
    (r"\badapter_up\.", "up."),
    (r"\bW_(left|right)$", r"\1"),
    (r"\bb$", "bias"),
    (r"\bwte\.", "tokens."),
    (r"\bcontrol_trans\.0\.", "down."),
    (r"\bcontrol_trans\.2\.", "up."),
)
"""Patterns of what the library calls the parameters of an adapter, and what we call them."""

PREFIXES = {"encoder": (0, "attention"), "self": (-1, "attention"), "cross": (-1, "cross_attention")}
"""What the library calls a prefix: in which stack of blocks it is, and before which of its attentions."""


def read(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(GOLDEN / f"{name}.safetensors", framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118 # no dict


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def our_name(name: str, model: PreTrainedModel, places: Mapping[str, Block]) -> str:
    """Return our name of a parameter: the anatomy says where an adapter is, the library its own way of saying so."""
    if name.endswith(".phm_rule"):
        return next((ours for ours, _ in model.named_parameters() if ours.endswith(".rule")), "")
    stacks = list(dict.fromkeys(block.stack for block in places.values()))
    if ".prefix_tunings." in name:
        match = re.fullmatch(r".*\.prefix_tunings\.golden\.(encoder|self|cross)(?:_prefix)?\.(.*)", name)
        assert match is not None
        stack, kind = PREFIXES[match[1]]
        return f"{stack_path(model, stacks[stack])}.prefix.{kind}.{renamed(match[2])}"
    place = next((place for place in places if name.startswith(f"{place}.")), "")
    match = re.fullmatch(r"(.*?)\.(adapter(?:s|_fusion_layer)\..*)", name.removeprefix(f"{place}."))
    if match is None:
        return name
    in_attention = "attention" in match[1] or match[1] == "layer.0"  # T5's
    stack_ = places[place].stack
    sub_block = stack_.attention if in_attention else stack_.feed_forward
    return f"{place}.{sub_block.ends}.adapter.{renamed(match[2])}"


def renamed(name: str) -> str:
    for pattern, ours in RENAMED:
        name = re.sub(pattern, ours, name)
    return name


def cases() -> Iterator[tuple[str, str, str]]:
    """Return every architecture and method that there are values of, with each attention that transformers has."""
    for path in sorted(GOLDEN.glob("*.safetensors")):
        method = next((name for name in sorted(FITTING, key=len) if path.stem.endswith(f"-{name}")), "")
        if method:
            architecture = path.stem.removesuffix(f"-{method}")
            yield architecture, method, "eager"
            if architecture != "deberta-v2":
                yield architecture, method, "sdpa"


@pytest.mark.parametrize(("architecture", "name", "attention"), list(cases()))
def test_outputs_and_gradients_are_those_of_adapters(architecture: str, name: str, attention: str, lab: Lab) -> None:
    plain, plain_about = read(architecture)
    golden, about = read(f"{architecture}-{name}")
    method = lab.methods[name]

    model = lab.golden(plain_about["config"], attention)
    missing, unexpected = model.load_state_dict(part(plain, "weight/"), strict=False)
    assert not unexpected
    assert set(missing) <= set(model.state_dict()) - {key for key, _ in model.named_parameters()}, "but tied ones"
    batch = {name: plain[name] for name in ("input_ids", "attention_mask", "labels")}
    plain_logits = model(**batch).logits
    modules = {id(module): path for path, module in model.named_modules()}
    places = {modules[id(block.module)]: block for block in blocks_of(model, ANATOMIES)}
    names = {key: our_name(key, model, places) for key in part(golden, "weight/") | part(golden, "gradient/")}
    model = method.apply(model, lab.application(about["overrides"]))
    names |= {key: our_name(key, model, places) for key in names if key.endswith(".phm_rule")}
    weights = {names[key]: tensor for key, tensor in part(golden, "weight/").items()}
    parameters = dict(model.named_parameters())
    plain_names = set(part(plain, "weight/"))
    assert set(weights) == {key for key in parameters if key.replace(".inner", "") not in plain_names}
    with torch.no_grad():
        for key, tensor in weights.items():
            assert parameters[key].shape == tensor.shape
            parameters[key].copy_(tensor)

    output = model(**batch)
    output.loss.backward()

    assert (plain_logits - golden["logits"]).abs().max() > 1e-3, "the method must show in the golden values"
    assert (output.logits - golden["logits"]).abs().max() <= TOLERANCE
    assert (output.loss - golden["loss"]).abs() <= TOLERANCE
    gradients = {names[key]: tensor for key, tensor in part(golden, "gradient/").items()}
    assert gradients.keys() == {key for key, parameter in parameters.items() if parameter.grad is not None}
    for key, gradient in gradients.items():
        torch.testing.assert_close(parameters[key].grad, gradient, rtol=0, atol=TOLERANCE)
    if "regularisation" in golden:
        torch.testing.assert_close(method.auxiliary_loss(model), golden["regularisation"], rtol=1e-6, atol=0)
