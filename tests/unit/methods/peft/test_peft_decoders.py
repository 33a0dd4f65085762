"""Methods that only decoders have, on tiny ones: they train what they say, and what they read off the data is right."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft.tuners.adaption_prompt.config import TRANSFORMERS_MODEL_CONFIG
from transformers import AutoConfig, AutoModelForCausalLM

from peftbench.errors import UnsupportedError, UserError
from peftbench.matrix.catalogue import Catalogue
from peftbench.methods.base import Application
from peftbench.methods.peft import METHODS
from peftbench.methods.peft.decoders import ADAPTED_ATTENTIONS
from peftbench.tasks.base import Batch, Head, Task
from peftbench.tasks.causal import TASKS
from peftbench.validity.check import check
from peftbench.workloads.subject import Subject

BY_NAME = {method.name: method for method in METHODS}
SFT = TASKS[0]
CATALOGUE = Catalogue.load()
LEFT_OUT = {"qlora", "loftq", "head", "bitfit", "mtl", "xlora", "arrow", "qalora"}
"""Quantised backbones have tests of their own. The others: nothing to train, several tasks, no gradient, trained LoRAs
that are not there, another quantisation."""
IDS = [[1, 9, 7, 8, 5, 6, 2, 0], [1, 4, 7, 8, 3, 2, 0, 0], [1, 5, 7, 8, 9, 9, 9, 2]]
"""Prompts of four tokens that begin with 1 and end with 7 and 8, then completions, then padding."""


def batch() -> Batch:
    ids = torch.tensor(IDS)
    mask = (ids != 0).long()
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": ids.masked_fill(mask == 0, -100).index_fill(1, torch.arange(4), -100),
    }


def decoder(model_type: str) -> Any:  # noqa: ANN401 - a model of transformers
    shape = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 140}
    longer = {"max_position_embeddings": 64, "intermediate_size": 64, "num_key_value_heads": 2}
    config = AutoConfig.for_model(model_type, **shape, **({} if model_type == "gpt2" else longer))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    model.config.pad_token_id = 0
    return model


DECODER = decoder("llama")


def subject(name: str, model: Any, **overrides: Any) -> Subject:  # noqa: ANN401 - of transformers, of any option
    batches = (batch(),)
    application = Application(task=SFT, overrides=overrides, batches=batches)
    return Subject(
        method=CATALOGUE.method(name),
        application=application,
        batches=batches,
        fresh_model=lambda: copy.deepcopy(model),
    )


@pytest.mark.parametrize("model_type", ADAPTED_ATTENTIONS)
def test_an_adaption_prompt_fits_each_attention_that_peft_names(model_type: str) -> None:
    assert set(TRANSFORMERS_MODEL_CONFIG) == set(ADAPTED_ATTENTIONS)
    proof = check(subject("adaption-prompt", decoder(model_type)))
    assert any("4 trained tensors received gradients" in fact for fact in proof.facts)


def test_cpt_takes_an_example_as_its_context_and_its_weights_settle_within_rounding() -> None:
    asked = subject("cpt", DECODER)
    config = BY_NAME["cpt"].configuration(decoder("llama"), asked.application)
    assert config.cpt_token_ids == [1, 9, 7, 8, 5, 6, 2]
    assert config.cpt_tokens_type_mask == [2, 2, 2, 2, 4, 4, 4]
    assert any(fact.startswith("two evaluations") for fact in check(asked).facts)
    with pytest.raises(UserError, match=r"give batches="):
        BY_NAME["cpt"].apply(decoder("llama"), replace(asked.application, batches=()))
    given: Any = BY_NAME["cpt"].apply(decoder("llama"), replace(asked.application, overrides={"cpt_token_ids": "3+4"}))
    assert torch.equal(given.prompt_encoder["default"].embedding.weight, given.word_embeddings.weight[[3, 4]])


def test_alora_works_from_the_invocation_on_and_not_before_it() -> None:
    asked = subject("alora", DECODER)
    method, plain = asked.method, copy.deepcopy(DECODER).eval()
    assert check(asked).notes == ("works from the last of the tokens 7+8 on, which all prompts have",)
    model = method.apply(copy.deepcopy(plain), asked.application).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter))
        differs = (model(**batch()).logits - plain(**batch()).logits).abs().amax(dim=(0, 2)) > 1e-6
    assert differs.tolist() == [False, False, True, True, True, True, True, True]


def test_prompts_that_have_nothing_in_common_leave_alora_without_an_invocation() -> None:
    other = {**batch(), "input_ids": torch.arange(1, 25).reshape(3, 8)}
    application = Application(task=SFT, batches=(other,))
    with pytest.raises(UnsupportedError, match=r"give alora\(alora_invocation_tokens="):
        BY_NAME["alora"].apply(decoder("llama"), application)


def test_what_only_decoders_have_is_refused_on_others(task: Callable[[Head], Task]) -> None:
    nli = task(Head.SEQUENCE_CLASSIFICATION)
    assert BY_NAME["adaption-prompt"].unsupported(nli, architecture="bert") == (
        "PEFT has it for gpt2, llama, mistral only, and this is bert"
    )
    for name in ("cpt", "alora"):
        assert BY_NAME[name].unsupported(nli, architecture="llama") == "it is for causal language models only"
        assert not BY_NAME[name].unsupported(SFT, architecture="llama")


@pytest.mark.parametrize("name", [name for name in CATALOGUE.methods if name not in LEFT_OUT])
def test_every_method_that_a_decoder_can_have_passes_its_validity_pass(name: str) -> None:
    proof = check(subject(name, DECODER, **({"r": 2} if name == "eva" else {})))
    assert proof.checkpoint is not None


def test_what_a_decoder_cannot_have_says_why() -> None:
    refused = {
        name: CATALOGUE.method(name).unsupported(SFT, architecture="llama")
        for name in LEFT_OUT
        if CATALOGUE.method(name).together == "" and name not in {"bitfit", "qlora", "loftq"}
    }
    assert all(refused.values()), refused
