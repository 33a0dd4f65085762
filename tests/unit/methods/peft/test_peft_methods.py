"""Every registered method of PEFT is what it says: it trains, saves, merges and switches its own parameters only."""

import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import LoraConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from peftbench.config.choices import OPTIMIZERS
from peftbench.devices.precision import Precision
from peftbench.errors import UnsupportedError
from peftbench.methods.base import Application, head_names, is_head
from peftbench.methods.optimization import Optimization
from peftbench.methods.peft import EXCLUDED, EXCLUDED_VARIANTS, PeftMethod
from peftbench.methods.peft import METHODS as ALL
from peftbench.tasks.base import Batch, Head, Task
from peftbench.workloads.subject import Subject

METHODS = [
    m for m in ALL if not m.architectures and not m.quantization and Head.SEQUENCE_CLASSIFICATION not in m.refuses
]
"""Those that encoders can have, exactly; decoders and quantised backbones have pages of their own."""
BY_NAME = {method.name: method for method in ALL}
HEADS = [head for head in Head if head is not Head.CAUSAL_LM]
"""Heads that encoders have."""
PAIRS = [(method, head) for method in METHODS for head in HEADS if head not in method.refuses]
ON_XLMR = {(name, Head.QUESTION_ANSWERING) for name in ("prefix-peft", "cartridge", "poly")}
"""Not on BERT, which has token types."""
MAIN = [BY_NAME[name] for name in ("lora", "dora", "ia3", "adalora", "ln-tuning", "vera", "oft", "prefix-peft")]

Encoder = Callable[..., Any]
Apply = Callable[..., Application]
Batches = Callable[..., Batch]
Logits = Callable[[Any], torch.Tensor]

every = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def perturb(model: torch.nn.Module) -> None:
    """Stand in for training: move every trained parameter."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trained(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.02)


def train(method: PeftMethod, model: torch.nn.Module, batch: Batch, steps: int) -> set[str]:
    """Train as a plain loop does; return the parameters that received a finite gradient other than zero."""
    optimizer = method.optimizer(model, Optimization(learning_rate=0.01)) or torch.optim.AdamW(
        trained(model).values(), lr=0.01, weight_decay=0.0
    )
    hook, moved = method.step_hook(model), set()
    model.train()
    for step in range(steps):
        loss = model(**batch).loss
        if (term := method.auxiliary_loss(model)) is not None:
            loss = loss + term
        loss.backward()
        for name, parameter in trained(model).items():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            if parameter.grad.any():
                moved.add(name)
        optimizer.step()
        if hook:
            hook(step)
        optimizer.zero_grad()
    return moved


@every
def test_trains_its_own_parameters_and_the_head_and_nothing_else(
    method: PeftMethod, encoder: Encoder, batch: Batches, application: Apply
) -> None:
    model = method.apply(encoder(num_hidden_layers=2), application())
    expected = trained(model).keys()
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}

    moved = train(method, model, batch(Head.SEQUENCE_CLASSIFICATION), steps=3)

    assert moved == expected
    assert not {name for name, p in model.named_parameters() if name in frozen and not torch.equal(p, frozen[name])}


@pytest.mark.parametrize(("method", "head"), PAIRS, ids=lambda value: getattr(value, "name", None))
def test_adds_new_parameters_and_a_trained_head(
    method: PeftMethod,
    head: Head,
    encoder: Encoder,
    batch: Batches,
    application: Apply,
) -> None:
    plain = encoder(head, "xlm-roberta" if (method.name, head) in ON_XLMR else "bert")
    heads = head_names(plain)
    own = {id(parameter) for parameter in plain.parameters()}
    head_size = sum(parameter.numel() for name, parameter in plain.named_parameters() if is_head(name, heads))

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = method.apply(plain, application(head))

    assert not [str(warning.message) for warning in said]
    assert not own & {id(parameter) for parameter in trained(model).values()}
    assert {name for name in trained(model) if not is_head(name, heads)}
    assert sum(p.numel() for name, p in trained(model).items() if is_head(name, heads)) == head_size
    model(**batch(head)).loss.backward()
    gradients = [parameter.grad for parameter in trained(model).values()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.name)
def test_every_input_reaches_the_model(head: Head, encoder: Encoder, batch: Batches, application: Apply) -> None:
    inputs = batch(head, segments=True)
    with torch.no_grad():
        expected = encoder(head)(**inputs).loss
        without = encoder(head)(**batch(head)).loss
        loss = BY_NAME["lora"].apply(encoder(head), application(head)).eval()(**inputs).loss  # B is zero at the start
    assert torch.equal(loss, expected)
    assert not torch.equal(loss, without)


@pytest.mark.parametrize("name", ["prefix-peft", "cartridge"])
def test_a_prefix_is_refused_where_peft_would_swallow_an_input(name: str, encoder: Encoder, application: Apply) -> None:
    head = Head.QUESTION_ANSWERING
    with pytest.raises(UnsupportedError, match=f"question answering with {name} on bert: .* swallows token_type_ids"):
        BY_NAME[name].apply(encoder(head), application(head))


@pytest.mark.parametrize("method", MAIN, ids=lambda method: method.name)
@pytest.mark.parametrize("head", [Head.SEQUENCE_CLASSIFICATION, Head.QUESTION_ANSWERING], ids=lambda head: head.name)
def test_trains_xlmr(method: PeftMethod, head: Head, encoder: Encoder, batch: Batches, application: Apply) -> None:
    plain = encoder(head, "xlm-roberta", num_hidden_layers=2)
    heads = head_names(plain)
    head_size = sum(parameter.numel() for name, parameter in plain.named_parameters() if is_head(name, heads))

    model = method.apply(plain, application(head))

    assert sum(p.numel() for name, p in trained(model).items() if is_head(name, heads)) == head_size
    assert train(method, model, batch(head), steps=3) == trained(model).keys()


class Adapted(NamedTuple):
    """A model as after training; every test leaves it as it was."""

    method: PeftMethod
    model: Any
    logits: torch.Tensor


@pytest.fixture(scope="module", params=METHODS, ids=lambda method: method.name)
def adapted(request: pytest.FixtureRequest, encoder: Encoder, application: Apply, logits: Logits) -> Adapted:
    method: PeftMethod = request.param
    model = method.apply(encoder(), application())
    perturb(model)
    return Adapted(method, model, logits(model))


def test_a_loaded_adapter_computes_the_same(
    adapted: Adapted, encoder: Encoder, application: Apply, logits: Logits, tmp_path: Path
) -> None:
    method = adapted.method
    method.save(adapted.model, tmp_path)

    loaded = method.load(encoder(), application(), tmp_path)

    assert torch.equal(logits(loaded), adapted.logits)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".safetensors"}
    if method.resumes:
        assert trained(loaded).keys() == trained(adapted.model).keys()


def test_disabled_is_the_plain_model_under_the_trained_head(adapted: Adapted, encoder: Encoder, logits: Logits) -> None:
    method, model, expected = adapted
    if not method.keeps_base or not method.resumes:
        with pytest.raises(UnsupportedError, match=method.name), method.disabled(model):
            pass
        return
    plain = encoder()
    weights = dict(model.named_parameters())
    for name in ("weight", "bias"):
        head = next(weights[key] for key in weights if key.endswith(f"modules_to_save.default.{name}"))
        getattr(plain.classifier, name).data = head.data

    with method.disabled(model):
        torch.testing.assert_close(logits(model), logits(plain), rtol=0, atol=1e-6)
    assert torch.equal(logits(model), expected)


def test_a_model_merged_in_place_computes_the_same_and_so_does_the_unmerged(adapted: Adapted, logits: Logits) -> None:
    method, model, expected = adapted
    if not method.mergeable or method.name == "osf":  # for OSF see below: PEFT would leave it merged
        return
    method.merge_in_place(model)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-5)
    method.unmerge_in_place(model)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-5)


def test_two_adapters_can_be_switched(adapted: Adapted, logits: Logits) -> None:
    method, model, _ = adapted
    if not method.keeps_base or method.name == "adalora":
        with pytest.raises(UnsupportedError, match=method.name):
            method.add_second(model)
        return
    expected = logits(model)

    first, second = method.add_second(model)

    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-6)
    method.activate(model, second)
    assert not torch.allclose(logits(model), expected, rtol=0, atol=1e-3)
    method.activate(model, first)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-6)
    model.delete_adapter(second)


@pytest.mark.parametrize("method", [method for method in METHODS if method.mergeable], ids=lambda method: method.name)
def test_a_merged_model_computes_the_same(
    method: PeftMethod, encoder: Encoder, application: Apply, logits: Logits
) -> None:
    model = method.apply(encoder(), application())
    perturb(model)
    expected = logits(model)

    merged = method.merge(model)

    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-5)
    assert type(merged) is type(encoder())


def test_what_cannot_be_merged_says_so(encoder: Encoder, application: Apply) -> None:
    unmergeable = {method.name for method in METHODS if not method.mergeable}
    prompts = {"prompt-tuning", "p-tuning", "prefix-peft", "cartridge", "multitask-prompt-tuning"}
    assert unmergeable == {"lily", "poly"} | prompts
    lily = BY_NAME["lily"]
    model = lily.apply(encoder(), application())
    for operation in (lily.merge, lily.merge_in_place, lily.unmerge_in_place):
        with pytest.raises(UnsupportedError, match=r"^lily cannot be merged"):
            operation(model)


def test_a_fault_of_the_library_in_merging_is_quoted(encoder: Encoder, application: Apply) -> None:
    model = BY_NAME["osf"].apply(encoder(), application())
    BY_NAME["osf"].merge_in_place(model)
    with pytest.raises(UnsupportedError, match=r"^PEFT cannot unmerge osf: NotImplementedError: .*unmerging"):
        BY_NAME["osf"].unmerge_in_place(model)


@every
def test_the_seed_alone_decides(method: PeftMethod, encoder: Encoder, application: Apply) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = method.apply(encoder(), application(seed=5)).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    second = method.apply(encoder(), application(seed=5)).state_dict()
    assert first.keys() == second.keys()
    assert not [name for name in first if not torch.equal(first[name], second[name])]


def test_every_tuner_of_peft_is_registered_or_excluded_with_a_reason() -> None:
    registered = {method.tuner for method in ALL}
    assert registered | EXCLUDED.keys() == {tuner.value for tuner in PeftType}
    assert not registered & EXCLUDED.keys()
    assert all(EXCLUDED.values())
    assert len(BY_NAME) == len(ALL)


def test_every_variant_of_lora_is_registered_or_excluded_with_a_reason(encoder: Encoder, application: Apply) -> None:
    configs = [method.configuration(encoder(), application()) for method in METHODS if method.tuner == "LORA"]
    used = {field.name for config in configs for field in fields(config) if getattr(config, field.name)}
    excluded_field = {"arrow_config": "arrow", "use_qalora": "qalora"}
    used.add("alora_invocation_tokens")  # of decoders
    for field in fields(LoraConfig):
        if field.metadata.get("is_lora_variant"):
            assert field.name in used or excluded_field[field.name] in EXCLUDED_VARIANTS, field.name
    initialisations = {config.init_lora_weights for config in configs}
    known = {"eva", "olora", "pissa", "corda", "loftq", "orthogonal", "mica", "lora_ga"}
    assert known <= initialisations | EXCLUDED_VARIANTS.keys() | {"loftq"}  # a method of its own


def test_unsupported_pairs_are_known_beforehand(task: Callable[[Head], Task]) -> None:
    refused = {
        method.name: {head for head in HEADS if method.unsupported(task(head), architecture="bert")}
        for method in METHODS
    }
    longer = {Head.TOKEN_CLASSIFICATION, Head.QUESTION_ANSWERING, Head.MULTIPLE_CHOICE}
    assert {name: heads for name, heads in refused.items() if heads} == {
        "prompt-tuning": longer,
        "p-tuning": longer,
        "prefix-peft": {Head.MULTIPLE_CHOICE},
        "cartridge": {Head.MULTIPLE_CHOICE},
        "multitask-prompt-tuning": longer,
        "poly": {Head.MULTIPLE_CHOICE},
    }


def test_a_tuner_that_the_installed_peft_lacks_is_unsupported(
    encoder: Encoder, application: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(PEFT_TYPE_TO_CONFIG_MAPPING, PeftType.HRA)
    with pytest.raises(UnsupportedError, match="has no tuner HRA"):
        BY_NAME["hra"].apply(encoder(), application())


def test_lora_on_xlmr_base_has_the_parameters_of_the_paper(encoder: Encoder, application: Apply) -> None:
    with torch.device("meta"):
        plain = encoder(
            model_type="xlm-roberta",
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
        )
        model = BY_NAME["lora"].apply(plain, application())
    body = sum(p.numel() for name, p in trained(model).items() if not is_head(name, head_names(plain)))
    assert body == 12 * 2 * 8 * (768 + 768) == 294_912


def test_adalora_reaches_its_budget_at_the_last_step(encoder: Encoder, batch: Batches, application: Apply) -> None:
    adalora = BY_NAME["adalora"]
    model = adalora.apply(encoder(), application(init_r=6, target_r=2))

    def ranks() -> int:
        values = [p for name, p in model.named_parameters() if "lora_E" in name]
        return sum(int(value.count_nonzero()) for value in values)

    train(adalora, model, batch(Head.SEQUENCE_CLASSIFICATION), steps=5)
    assert ranks() > 2 * 2  # two layers of a budget of two
    hook = adalora.step_hook(model)
    assert hook is not None
    model(**batch(Head.SEQUENCE_CLASSIFICATION)).loss.backward()
    hook(20)  # the last of the application's steps
    assert ranks() == 2 * 2


def test_adamss_prunes_to_half_of_its_subspaces(encoder: Encoder, batch: Batches, application: Apply) -> None:
    adamss = BY_NAME["adamss-asa"]
    model = adamss.apply(encoder(), application())
    heads = head_names(encoder())

    def subspaces() -> int:
        return sum("adamss_A" in name for name in trained(model) if not is_head(name, heads))

    before = subspaces()
    train(adamss, model, batch(Head.SEQUENCE_CLASSIFICATION), steps=21)  # the application has 20
    assert 0 < subspaces() <= before // 2


@pytest.mark.parametrize("name", ["lora", "vera", "adamss"])
def test_most_methods_need_no_call_at_each_step(name: str, encoder: Encoder, application: Apply) -> None:
    assert BY_NAME[name].step_hook(BY_NAME[name].apply(encoder(), application())) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [("lora-fa", "LoraFAOptimizer"), ("lora-plus", "AdamW"), ("lora-riemannian", "RiemannianPreconditionedOptimizer")],
)
def test_some_variants_are_an_optimizer(name: str, kind: str, encoder: Encoder, application: Apply) -> None:
    model = BY_NAME[name].apply(encoder(), application())
    optimizer = BY_NAME[name].optimizer(model, Optimization(learning_rate=0.001, weight_decay=0.1))
    assert optimizer is not None
    assert type(optimizer).__name__ == kind
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in trained(model).values()} <= held
    rates = {group["lr"] for group in optimizer.param_groups if group["params"]}
    assert rates == ({0.001, 0.016} if name == "lora-plus" else {0.001})
    assert BY_NAME["lora"].optimizer(model, Optimization()) is None


@pytest.mark.parametrize("name", ["lora", "lora-plus", "lora-riemannian"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_variants_that_are_an_optimizer_are_adamw_in_the_chosen_implementation(
    name: str, optimizer: str, encoder: Encoder, batch: Batches, application: Apply
) -> None:
    subject = Subject(BY_NAME[name], application(), (), encoder, Precision(optimizer=optimizer))
    model = subject.applied_model()
    made = subject.optimizer(model)
    assert (made.defaults["fused"], made.defaults["foreach"]) == {
        "fused": (True, None),
        "foreach": (None, True),
        "loop": (None, False),
    }[optimizer]
    model(**batch(Head.SEQUENCE_CLASSIFICATION)).loss.backward()
    made.step()


def test_kasa_adds_its_regulariser(encoder: Encoder, application: Apply) -> None:
    model = BY_NAME["kasa"].apply(encoder(), application())
    term = BY_NAME["kasa"].auxiliary_loss(model)
    expected = torch.zeros(())
    weights = dict(model.named_parameters())
    for name, a in weights.items():
        if ".lora_A." in name:
            b, identity = weights[name.replace("lora_A", "lora_B")], torch.eye(8)
            diagonal = weights[name.replace("lora_A", "lora_diag").removesuffix(".weight")]
            expected = expected + 1e-3 * ((b.T @ b - identity).norm() + (a @ a.T - identity).norm())
            expected = expected + 1e-4 * diagonal.square().sum()
    torch.testing.assert_close(term, expected)
    assert BY_NAME["lora"].auxiliary_loss(model) is None


def test_adalora_does_all_in_the_steps_that_its_schedule_masks_ranks_in(encoder: Encoder, application: Apply) -> None:
    head, adalora = Head.SEQUENCE_CLASSIFICATION, BY_NAME["adalora"]
    usual = adalora.apply(encoder(head), application(head))
    assert [adalora.is_full_step(usual, number) for number in range(4)] == [False, True, True, True]
    late = adalora.apply(encoder(head), replace(application(head), overrides={"tinit": 5, "deltaT": 3}))
    assert [number for number in range(1, 14) if adalora.is_full_step(late, number)] == [6, 9, 12]


@pytest.mark.parametrize("head", HEADS)
def test_adalora_is_regularised_on_every_task(head: Head, encoder: Encoder, batch: Batches, application: Apply) -> None:
    model: Any = BY_NAME["adalora"].apply(encoder(head), application(head))
    perturb(model)
    inputs, loss = batch(head), model(**batch(head)).loss
    if (term := BY_NAME["adalora"].auxiliary_loss(model)) is not None:
        loss = loss + term
    weights = [p for name, p in model.named_parameters() if "lora_A" in name or "lora_B" in name]
    grams = [p @ p.T if len(p) == 12 else p.T @ p for p in weights]
    distance = sum((gram - torch.eye(12)).norm() for gram in grams) / len(grams)
    plain = model.base_model.model(**inputs).loss
    torch.testing.assert_close(loss - plain, 0.5 * distance)  # PEFT's weight
