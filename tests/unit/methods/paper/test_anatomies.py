"""What holds for the paper's methods on every architecture whose anatomy is described."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import T5Config, T5ForTokenClassification

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.anatomy import Anatomy, Stack, SubBlock
from peftbench.methods.base import head_names, is_head
from peftbench.methods.paper.anatomies import ALL, ANATOMIES, LLAMA
from peftbench.methods.paper.blocks import blocks_of
from peftbench.methods.paper.prefix_scores import PrefixedMPNetAttention
from peftbench.methods.paper.replacement import Note

if TYPE_CHECKING:
    from tests.unit.methods.conftest import Lab
    from transformers import PreTrainedModel

    from peftbench.methods.paper.block_method import BlockMethod
    from peftbench.methods.paper.blocks import Block
    from peftbench.tasks.base import Batch

MECHANISMS = ("pfeiffer", "houlsby-parallel", "prefix")
"""Methods that, together, read and replace everything that an anatomy describes."""

KINDS = {anatomy.stacks: anatomy.name for anatomy in reversed(ALL)}
"""An architecture of each anatomy."""

FEW = ("albert", "bart", "deberta-v2", "distilbert", "gemma2", "gpt2", "llama", "modernbert", "mpnet", "t5")
"""Architectures that differ in more than names."""


@pytest.fixture
def batch(batch: Batch) -> Batch:
    """The batch with one end in each row, and padding where decoders are told of it by its number."""
    input_ids = batch["input_ids"].clone()
    input_ids[range(3), batch["attention_mask"].sum(1) - 1] = 2
    input_ids[batch["attention_mask"] == 0] = 0
    return {**batch, "input_ids": input_ids}


def test_names_are_unique() -> None:
    assert len(ANATOMIES) == len(ALL)


@torch.no_grad()
@pytest.mark.parametrize("architecture", sorted(ANATOMIES))
def test_each_sub_block_goes_on_with_what_the_one_before_ends_in(architecture: str, lab: Lab, batch: Batch) -> None:
    model = lab.encoder(architecture)
    read: dict[Stack, list[torch.Tensor]] = defaultdict(list)
    left: dict[Stack, list[torch.Tensor]] = defaultdict(list)

    def watch(block: Block, sub_block: SubBlock) -> None:
        def leave(_: torch.nn.Module, __: object, h: torch.Tensor) -> None:
            y = h.view_as(read[block.stack][-1]) + read[block.stack][-1]
            if sub_block.norm:
                y = block.part(sub_block.norm)(y)
            left[block.stack].append(y)

        block.part(sub_block.reads).register_forward_pre_hook(lambda _, inputs: read[block.stack].append(*inputs))
        block.part(sub_block.ends).register_forward_hook(leave)

    for block in blocks_of(model, ANATOMIES):
        for sub_block in block.stack.sub_blocks:
            watch(block, sub_block)
    model(**batch)

    assert read.keys() == set(ANATOMIES[architecture].stacks)
    for stack, inputs in read.items():
        times = {"albert": 4}.get(architecture, len([b for b in blocks_of(model, ANATOMIES) if b.stack == stack]))
        assert len(inputs) == times * len([*stack.sub_blocks])
        for now, before in zip(inputs[1:], left[stack][:-1], strict=True):
            torch.testing.assert_close(now.flatten(0, -2), before.flatten(0, -2))


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        (architecture, name)
        for stacks, architecture in KINDS.items()
        for name in MECHANISMS
        if name != "prefix" or stacks[0].attentions
    ],
)
def test_trains_what_it_adds_and_can_be_taken_off(architecture: str, name: str, lab: Lab, batch: Batch) -> None:
    method, plain = lab.methods[name], lab.encoder(architecture)
    assert not method.unsupported(lab.application().task, architecture=architecture)
    wanted = _logits(plain, batch)
    names = {key for key, _ in plain.named_parameters()}
    implementation = plain.config._attn_implementation  # transformers has no public name for it
    heads = head_names(plain)

    model: PreTrainedModel = method.apply(plain, lab.fitting(name, non_linearity="tanh"))  # no dead units
    lab.perturb(model)
    for key, parameter in model.named_parameters():
        assert parameter.requires_grad == (is_head(key, heads) or ".adapter." in key or ".prefix." in key), key
    with torch.no_grad():
        for parameter, fresh in zip(_head(model, heads), _head(lab.encoder(architecture), heads), strict=True):
            parameter.copy_(fresh)
    assert (_logits(model, batch) - wanted).abs().max() > 1e-3
    with method.disabled(model):
        assert torch.equal(_logits(model, batch), wanted)
    model.train()
    model(**batch).loss.backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        assert parameter.grad is None or parameter.grad.any(), key

    restored = method.remove(model.eval())
    assert {key for key, _ in restored.named_parameters()} == names
    assert torch.equal(_logits(restored, batch), wanted)
    assert restored.config._attn_implementation == implementation  # type: ignore[union-attr]
    torch.manual_seed(0)
    wanted = _logits(lab.encoder(architecture).train(), batch)
    torch.manual_seed(0)
    assert torch.equal(_logits(restored.train(), batch), wanted), "what the block itself drops is as it was"


@torch.no_grad()  # with gradients, torch takes another attention kernel if a position bias is trained
def _logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    logits: torch.Tensor = model(**batch).logits
    return logits


def _head(model: torch.nn.Module, heads: frozenset[str]) -> list[torch.nn.Parameter]:
    return [parameter for key, parameter in model.named_parameters() if is_head(key, heads)]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("architecture", FEW)
def test_padding_changes_nothing(architecture: str, attention: str, lab: Lab, batch: Batch) -> None:
    model = lab.apply_fitting("prefix", model_type=architecture, attention=attention)
    lab.perturb(model)
    alone = model(input_ids=batch["input_ids"][1:2, :6]).logits
    padded = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[1:2]
    torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "mistral", "t5"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_with_a_prefix_no_token_looks_ahead(architecture: str, attention: str, lab: Lab) -> None:
    changes = {"is_decoder": True} if architecture == "bert" else {}
    model = lab.apply_fitting("prefix", model_type=architecture, attention=attention, **changes)
    lab.perturb(model)
    backbone: Any = model.base_model
    ids = torch.arange(3, 12)[None]
    changed = ids.clone()
    changed[0, -1] = 50
    arguments = {"input_ids": ids} if architecture == "t5" else {}
    key = "decoder_input_ids" if arguments else "input_ids"
    states, others = (backbone(**arguments, **{key: x}).last_hidden_state for x in (ids, changed))
    torch.testing.assert_close(states[:, :-1], others[:, :-1])
    assert not torch.allclose(states[:, -1], others[:, -1], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("architecture", FEW)
def test_an_adapter_that_adds_nothing_leaves_all_as_it_is_in_training(
    architecture: str, lab: Lab, batch: Batch
) -> None:
    plain, model = lab.encoder(architecture).train(), lab.apply("par-bn", model_type=architecture).train()
    torch.manual_seed(0)
    wanted = plain(**batch).logits
    torch.manual_seed(0)
    torch.testing.assert_close(model(**batch).logits, wanted)


@pytest.mark.filterwarnings("ignore:.*checkpointing:FutureWarning")  # its new name is not in transformers 5.0
@pytest.mark.parametrize("name", ["pfeiffer", "prefix"])
@pytest.mark.parametrize("architecture", ["bart", "distilbert", "llama", "t5"])
def test_gradient_checkpointing_changes_nothing(architecture: str, name: str, lab: Lab, batch: Batch) -> None:
    plain = lab.encoder(architecture)
    model = lab.methods[name].apply(plain, lab.fitting(name)).train()
    lab.perturb(model)

    def gradients() -> dict[str, torch.Tensor | None]:
        model.zero_grad()
        torch.manual_seed(0)
        model(**batch).loss.backward()
        return {key: parameter.grad for key, parameter in lab.trained(model).items()}

    wanted = gradients()
    plain.gradient_checkpointing_enable()
    for key, gradient in gradients().items():
        torch.testing.assert_close(gradient, wanted[key])


@pytest.mark.parametrize("name", ["houlsby-parallel", "prefix"])
def test_compiles_into_one_graph(name: str, lab: Lab, batch: Batch) -> None:
    model = lab.apply_fitting(name, model_type="llama", num_hidden_layers=1)
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    wanted = model.base_model(**inputs).last_hidden_state
    torch.compiler.reset()
    compiled: Any = torch.compile(model.base_model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**inputs).last_hidden_state, wanted)


@torch.no_grad()
def test_the_attention_of_mpnet_is_its_formula(lab: Lab, batch: Batch) -> None:
    attention: Any = lab.encoder("mpnet").base_model.encoder.layer[0].attention.attn
    x, bias, prefix = torch.randn(3, 9, 32), torch.randn(3, 4, 9, 9), torch.randn(2, 5, 32)
    hidden = (batch["attention_mask"][:, None, None] == 0) * torch.finfo(torch.float32).min
    q, k, v = (layer(x).view(3, 9, 4, 8) for layer in (attention.q, attention.k, attention.v))
    keys, values = (part.view(1, 5, 4, 8).expand(3, -1, -1, -1) for part in prefix)
    scores = torch.cat(
        (
            torch.einsum("bqhd,bkhd->bhqk", q, keys) / 8**0.5,
            torch.einsum("bqhd,bkhd->bhqk", q, k) / 8**0.5 + bias + hidden,
        ),
        dim=-1,
    )
    mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), torch.cat((values, v), dim=1))
    module = PrefixedMPNetAttention(attention, Note(), 0)
    output, weights = module.attend(prefix, x, hidden, bias, output_attentions=True)
    torch.testing.assert_close(output, attention.o(mixed.flatten(2)))
    torch.testing.assert_close(weights, scores.softmax(-1))


def test_layers_of_an_encoder_and_its_decoder_are_counted_together(lab: Lab) -> None:
    model = lab.apply("houlsby", {"layers": "1+4"}, model_type="bart")
    adapted = {key.rpartition(".adapter.")[0] for key in lab.trained(model) if ".adapter." in key}
    assert adapted == {
        f"model.{part}.{end}"
        for part in ("encoder.layers.1", "decoder.layers.2")
        for end in ("self_attn.out_proj", "fc2")
    }


def test_an_encoder_without_its_decoder(lab: Lab) -> None:
    shape: dict[str, Any] = {"vocab_size": 100, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    model = T5ForTokenClassification(T5Config(**shape))
    applied = lab.methods["prefix"].apply(model, lab.fitting("prefix"))
    assert {key.rpartition(".")[0] for key in lab.trained(applied) if "prefix" in key} == {
        f"transformer.encoder.prefix.attention.{layer}" for layer in ("tokens", "down", "up")
    }


def test_each_kind_of_attention_has_prefixes_of_its_own(lab: Lab) -> None:
    model = lab.apply_fitting("prefix", model_type="bart")
    sizes = {key: tuple(tensor.shape) for key, tensor in lab.trained(model).items() if key.endswith("up.weight")}
    assert sizes == {
        "model.encoder.prefix.attention.up.weight": (2 * 2 * 32, 8),
        "model.decoder.prefix.attention.up.weight": (3 * 2 * 32, 8),
        "model.decoder.prefix.cross_attention.up.weight": (3 * 2 * 32, 8),
    }


def test_prefixes_are_as_wide_as_the_keys(lab: Lab) -> None:
    model = lab.apply_fitting("prefix", model_type="qwen3")
    assert lab.trained(model)["model.prefix.attention.up.weight"].shape == (2 * 2 * 2 * 12, 8)
    assert lab.trained(model)["model.prefix.attention.down.weight"].shape == (8, 32)


def described(lab: Lab, name: str, anatomy: Anatomy) -> BlockMethod[Any]:
    method: BlockMethod[Any] = lab.methods[name].with_anatomies({anatomy.name: anatomy})  # type: ignore[assignment]
    return method


def test_an_anatomy_that_does_not_fit_says_where(lab: Lab) -> None:
    wrong = Anatomy(name="bert", stacks=(LLAMA,))
    with pytest.raises(UserError, match=r"^the anatomy of 'bert' names layers\.\*, where BertFor\w+ has no blocks$"):
        described(lab, "houlsby", wrong).apply(lab.encoder(), lab.fitting("houlsby"))
    stack = ANATOMIES["bert"].stacks[0]
    for part, message in (("output.dropt", "'output.dropt', which BertLayer has not: "), ("ouput", "'ouput', which")):
        broken = replace(stack, feed_forward=replace(stack.feed_forward, ends=part))
        with pytest.raises(UserError, match=f"^the anatomy names {re.escape(message)}"):
            described(lab, "pfeiffer", Anatomy(name="bert", stacks=(broken,))).apply(
                lab.encoder(), lab.fitting("pfeiffer")
            )


def test_without_a_place_for_keys_and_values_there_is_no_prefix(lab: Lab) -> None:
    stack = ANATOMIES["bert"].stacks[0]
    silent = Anatomy(name="bert", stacks=(replace(stack, attention=replace(stack.attention, attends="")),))
    with pytest.raises(UnsupportedError, match=r"^the anatomy of 'bert' does not say where keys and values enter$"):
        described(lab, "prefix", silent).apply(lab.encoder(), lab.fitting("prefix"))
    other = replace(ANATOMIES["mpnet"].stacks[0], prefixed=stack.prefixed)
    with pytest.raises(UnsupportedError, match=r"^MPNetSelfAttention calls no attention function of transformers$"):
        described(lab, "prefix", Anatomy(name="mpnet", stacks=(other,))).apply(
            lab.encoder("mpnet"), lab.fitting("prefix")
        )


def test_a_backbone_that_runs_its_blocks_itself_needs_a_head(lab: Lab) -> None:
    with pytest.raises(UnsupportedError, match=r"^LlamaModel runs its blocks itself; give a model with a task head$"):
        lab.methods["prefix"].apply(lab.encoder("llama").base_model, lab.fitting("prefix"))


def test_blocks_in_the_order_of_computation(lab: Lab) -> None:
    model: Any = lab.encoder("bart")
    modules = [block.module for block in blocks_of(model, ANATOMIES)]
    assert modules == [*model.model.encoder.layers, *model.model.decoder.layers]
