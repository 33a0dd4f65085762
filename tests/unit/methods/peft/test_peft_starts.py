"""LoRA that starts from data: from which data, and what is said where there is none or too little."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.base import Application
from peftbench.methods.peft import METHODS
from peftbench.methods.peft.starts import STARTS
from peftbench.methods.preparation import preparation_s
from peftbench.tasks.base import Batch, Head

BY_NAME = {method.name: method for method in METHODS}
NAMES = {"eva": "eva", "corda": "corda", "lora_ga": "lora-ga"}

Encoder = Callable[..., Any]
Apply = Callable[..., Application]

each = pytest.mark.parametrize("start", STARTS)


def adapters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters() if "lora_" in name}


def widened(batch: Batch, tokens: int) -> Batch:
    """Pad a batch of token classification on the right."""
    padding = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.nn.functional.pad(tensor, (0, tokens), value=padding[name]) if name in padding else tensor
        for name, tensor in batch.items()
    }


@each
def test_an_override_starts_as_the_method_does_and_its_time_is_kept(
    start: str, encoder: Encoder, application: Apply
) -> None:
    plain, overridden = application(), application(init_lora_weights=start)
    method = BY_NAME[NAMES[start]].apply(encoder(), plain)
    override = BY_NAME["lora"].apply(encoder(), overridden)
    first, second = adapters(method), adapters(override)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (preparation_s(override) or 0) > 0
    assert preparation_s(BY_NAME["lora"].apply(encoder(), plain)) is None


@each
def test_the_start_depends_on_the_batches_and_not_on_their_padding(
    start: str, encoder: Encoder, application: Apply
) -> None:
    head = Head.TOKEN_CLASSIFICATION
    method, applied = BY_NAME[NAMES[start]], application(head)

    def started(application: Application) -> dict[str, torch.Tensor]:
        plain = encoder(head, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        return adapters(method.apply(plain, application))

    own = started(applied)
    wider = replace(applied, batches=[widened(one, 4) for one in applied.batches])
    padded = started(wider)
    other = replace(applied, batches=[{**one, "input_ids": one["input_ids"].flip(1)} for one in applied.batches])
    others = started(other)
    for name, weights in own.items():
        torch.testing.assert_close(padded[name], weights, rtol=1e-3, atol=1e-4)
    assert not all(torch.allclose(others[name], weights, atol=1e-3) for name, weights in own.items())


def test_corda_moves_what_it_starts_from_out_of_the_weights(encoder: Encoder, application: Apply) -> None:
    plain = encoder()
    weights = {name: parameter.detach().clone() for name, parameter in plain.named_parameters()}
    model = BY_NAME["corda"].apply(plain, application())
    query: Any = model.get_submodule("base_model.model.bert.encoder.layer.0.attention.self.query")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.allclose(query.base_layer.weight, weights[name], atol=1e-3)
    whole = query.base_layer.weight + query.get_delta_weight("default")
    torch.testing.assert_close(whole, weights[name], rtol=0, atol=1e-5)


@each
def test_without_data_there_is_no_start(start: str, encoder: Encoder, application: Apply) -> None:
    with pytest.raises(UserError, match=r"starts from data: give batches="):
        BY_NAME[NAMES[start]].apply(encoder(), replace(application(), batches=()))


def test_eva_is_refused_where_no_batch_has_tokens_enough(encoder: Encoder, application: Apply) -> None:
    few = replace(application(), batches=[{name: part[:1] for name, part in application().batches[0].items()}])
    with pytest.raises(UnsupportedError, match=r"EVA takes 16 components .* give a larger batch size"):
        BY_NAME["eva"].apply(encoder(), few)
