"""An adapter's folder as a method: what PEFT saves is applied, loaded and trained as PEFT does it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from peftbench.errors import UnsupportedError, UserError, ValidityError
from peftbench.matrix.catalogue import Catalogue
from peftbench.methods.base import Application
from peftbench.methods.optimization import Optimization
from peftbench.methods.peft.adapter_folder import AdapterFolder
from peftbench.methods.peft.folder import FolderMethod
from peftbench.tasks.base import Batch, Head, Task
from peftbench.validity.check import check
from peftbench.workloads.subject import Subject

SEQUENCES = Head.SEQUENCE_CLASSIFICATION

Make = Callable[..., Any]
Write = Callable[..., FolderMethod]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a folder and read it as a method."""

    def make(config: Mapping[str, Any], training: Mapping[str, Any] | None = None) -> FolderMethod:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
        if training is not None:
            (tmp_path / "training_params.json").write_text(json.dumps(training))
        return FolderMethod.of("mine", AdapterFolder.read(tmp_path))

    return make


def trained(model: torch.nn.Module, folder: Path, config: peft.PeftConfig) -> None:
    """Save an adapter of PEFT that changes what a model computes."""
    made = peft.get_peft_model(model, config)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    made.save_pretrained(folder, save_embedding_layers=False)


@pytest.mark.parametrize(
    ("config", "training", "kin", "body"),
    [
        ({"r": 4}, None, "lora", {"lora_A", "lora_B"}),
        ({"r": 4, "use_dora": True}, None, "dora", {"lora_A", "lora_B", "lora_magnitude_vector"}),
        ({"r": 4, "init_lora_weights": "pissa_niter_4"}, None, "pissa", {"lora_A", "lora_B"}),
        ({"r": 4, "kasa_config": {"beta": 1e-4}}, None, "kasa", None),
        ({"r": 4}, {"optimizer_type": "lora-fa"}, "lora", {"lora_B"}),
        ({"peft_type": "ADAMSS", "use_asa": True}, None, "adamss-asa", None),
        ({"peft_type": "ADALORA", "init_r": 4, "target_r": 2, "total_step": 50}, None, "adalora", None),
    ],
)
def test_a_configuration_is_applied_with_what_the_built_in_method_adds(
    config: Mapping[str, Any],
    training: Mapping[str, Any] | None,
    kin: str,
    body: set[str] | None,
    write: Write,
    encoder: Make,
    application: Callable[..., Application],
) -> None:
    method = write({**config, "peft_version": "0.1.0"}, training)
    method.check({})
    assert method.kin.name == kin
    assert method.keeps_base is method.kin.keeps_base
    model = method.apply(encoder(hidden_size=32), application())
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("classifier" in name for name in names)
    if body:
        assert {part for name in names for part in name.split(".") if part.startswith("lora_")} == body
    rank = (model.peft_config["default"].init_r if kin == "adalora" else config.get("r")) or 0  # type: ignore[index, union-attr] # PEFT's model
    assert rank in (0, 4)


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=4, target_modules=["query", "dense"], task_type="SEQ_CLS"),
        peft.LoraConfig(r=4, init_lora_weights="pissa", target_modules=["query"], task_type="SEQ_CLS"),
        peft.IA3Config(task_type="SEQ_CLS"),
        peft.PromptTuningConfig(num_virtual_tokens=3, task_type="SEQ_CLS"),
        peft.PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=8, task_type="SEQ_CLS"),
    ],
    ids=lambda config: f"{config.peft_type.value}-{getattr(config, 'init_lora_weights', '')}",
)
def test_trained_weights_are_those_that_peft_would_load_and_pass_the_proof(
    config: peft.PeftConfig, tmp_path: Path, encoder: Make, batch: Callable[..., Batch], task: Callable[[Head], Task]
) -> None:
    one = batch(SEQUENCES)
    with torch.no_grad():
        trained(encoder(), tmp_path, config)
        expected = peft.PeftModel.from_pretrained(encoder(), tmp_path).eval()(**one).logits
    method = FolderMethod.of("mine", AdapterFolder.read(tmp_path))
    method.check({})
    subject = Subject(
        method=method, application=Application(task=task(SEQUENCES), seed=5), batches=[one], fresh_model=encoder
    )
    with torch.no_grad():
        found = subject.applied_model().eval()(**one).logits
    torch.testing.assert_close(found, expected)
    assert (found - encoder()(**one).logits).abs().max() > 0.01
    proof = check(subject)
    assert method.identity in proof.notes
    assert "its weights" in method.identity
    only_infers = config.peft_type == peft.PeftType.P_TUNING
    assert bool(method.untrainable) is only_infers
    assert bool(proof.steps) is not only_infers


def test_an_adapter_of_a_language_model_is_loaded_for_sft_alone(
    tmp_path: Path, encoder: Make, batch: Callable[..., Batch]
) -> None:
    def llama() -> Any:  # noqa: ANN401 - a model of transformers
        return encoder(Head.CAUSAL_LM, "llama", num_key_value_heads=2)

    one = batch(SEQUENCES)["input_ids"]
    with torch.no_grad():
        trained(llama(), tmp_path, peft.LoraConfig(r=4, task_type="CAUSAL_LM"))
        expected = peft.PeftModel.from_pretrained(llama(), tmp_path).eval()(one).logits
        method = FolderMethod.of("mine", AdapterFolder.read(tmp_path))
        sft, nli = (Catalogue.load().task(name) for name in ("sft", "nli"))
        model = method.apply(llama(), Application(task=sft))
        torch.testing.assert_close(model.eval()(one).logits, expected)
    assert all("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)
    assert method.unsupported(sft, architecture="llama") == ""
    assert "trained for CAUSAL_LM, and nli is SEQ_CLS" in method.unsupported(nli, architecture="llama")


def test_a_head_that_was_not_saved_is_drawn_and_a_head_of_other_classes_refused(
    tmp_path: Path, encoder: Make, application: Callable[..., Application]
) -> None:
    config = peft.LoraConfig(r=4, target_modules=["query"])
    trained(encoder(), tmp_path / "plain", config)
    method = FolderMethod.of("mine", AdapterFolder.read(tmp_path / "plain"))
    plain, model = encoder(), method.apply(encoder(), application())
    drawn = dict(model.named_parameters())["base_model.model.classifier.modules_to_save.default.weight"]
    assert torch.equal(drawn, plain.classifier.weight)
    trained(encoder(num_labels=2), tmp_path / "two", replace(config, task_type="SEQ_CLS"))
    other = FolderMethod.of("mine", AdapterFolder.read(tmp_path / "two"))
    with pytest.raises(UnsupportedError, match=r"belongs to a head for other classes: .*classifier.*here \[3"):
        other.apply(encoder(), application())


def test_weights_of_another_backbone_or_task_are_one_line(
    tmp_path: Path, encoder: Make, application: Callable[..., Application], task: Callable[[Head], Task]
) -> None:
    trained(encoder(), tmp_path, peft.LoraConfig(r=4, target_modules=["query"], task_type="SEQ_CLS"))
    method = FolderMethod.of("mine", AdapterFolder.read(tmp_path))
    with pytest.raises(UnsupportedError, match=r"^[^\n]*belongs to a backbone of another shape[^\n]*$"):
        method.apply(encoder(hidden_size=64), application())
    with pytest.raises(UnsupportedError, match=r"^[^\n]*belongs to another backbone[^\n]*$"):
        method.apply(encoder(num_hidden_layers=2), application())
    assert method.unsupported(task(SEQUENCES), architecture="bert") == ""
    told = method.unsupported(task(Head.TOKEN_CLASSIFICATION), architecture="bert")
    assert told == "its weights were trained for SEQ_CLS, and ner is TOKEN_CLS"
    with pytest.raises(UserError, match=r"overrides do not fit weights"):
        method.check({"r": 2})
    method.check({"quantization": "nf4"})  # of the backbone, whose shape stays as it is


@pytest.mark.parametrize(
    ("broken", "error", "told"),
    [
        (lambda tensor: tensor * float("nan"), ValidityError, "holds numbers that are not finite: its training has"),
        (lambda tensor: tensor.to(torch.int32), UnsupportedError, "lora_A.weight is int32, here float32"),
    ],
    ids=["nan", "integers"],
)
def test_numbers_that_no_training_leaves_are_not_loaded(
    broken: Callable[[torch.Tensor], torch.Tensor],
    error: type[Exception],
    told: str,
    tmp_path: Path,
    encoder: Make,
    application: Callable[..., Application],
) -> None:
    trained(encoder(), tmp_path, peft.LoraConfig(r=4, target_modules=["query"]))
    weights = load_file(tmp_path / "adapter_model.safetensors")
    save_file(
        {name: broken(tensor) if "lora_A" in name else tensor for name, tensor in weights.items()},
        tmp_path / "adapter_model.safetensors",
    )
    method = FolderMethod.of("mine", AdapterFolder.read(tmp_path))
    with pytest.raises(error, match=rf"^[^\n]*adapter_model.safetensors: [^\n]*{told}[^\n]*$"):
        method.apply(encoder(), application())


def test_a_prompt_from_a_folder_is_not_put_before_packed_examples(
    write: Write, encoder: Make, application: Callable[..., Application]
) -> None:
    method = write({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4})
    with pytest.raises(UnsupportedError, match="mine puts a prompt before a sequence, not before each packed example"):
        method.apply(encoder(), replace(application(), packed=True))


@pytest.mark.parametrize(
    ("config", "training", "told"),
    [
        ({"peft_type": "NEXT"}, None, "the installed PEFT has no tuner 'NEXT': PEFT 99.0 saved it"),
        ({"hyper": 3}, None, "the installed PEFT does not know 'hyper' of a LORA configuration"),
        ({"layers_pattern": "h"}, None, "PEFT cannot read"),
        ({"peft_type": "lora"}, None, "has no tuner 'lora': PEFT 99.0 saved it, "),
        ({"peft_type": "lora"}, None, "is 'LORA' meant?"),
        ({"r": "four"}, None, "adapter_config.json: r must be a number, not 'four'"),
        ({"lora_dropout": [0.1]}, None, "adapter_config.json: lora_dropout must be a number, not [0.1]"),
        ({}, {"optimizer_type": "Adamm"}, "unknown optimizer_type 'Adamm'"),
        ({}, {"optimizer_type": "LBFGS"}, "optimizer_type LBFGS runs the model itself: give a class of torch.optim"),
    ],
)
def test_what_peft_does_not_understand_is_one_line(
    config: Mapping[str, Any], training: Mapping[str, Any] | None, told: str, write: Write
) -> None:
    method = write({"target_modules": ["query"], "peft_version": "99.0", **config}, training)
    with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
        method.check({})
    assert told in str(caught.value)


def test_a_value_that_peft_refuses_when_it_is_applied_names_the_file(
    write: Write, encoder: Make, application: Callable[..., Application], tmp_path: Path
) -> None:
    method = write({"target_modules": ["query"], "r": -4})
    with pytest.raises(UnsupportedError, match=r"^[^\n]*positive[^\n]*$") as caught:
        method.apply(encoder(), application())
    assert str(tmp_path / "adapter_config.json") in str(caught.value)


def test_an_entry_that_is_unknown_and_off_is_passed_over_and_an_override_counts(
    write: Write, encoder: Make, application: Callable[..., Application]
) -> None:
    method = write({"r": 4, "hyper": None, "super": False, "target_modules": ["query"]})
    method.check({"r": 2})
    model: Any = method.apply(encoder(), application(r=2))
    assert model.peft_config["default"].r == 2
    with pytest.raises(UserError, match="unknown option of mine 'rr'"):
        method.check({"rr": 2})


def test_the_folder_says_how_it_is_trained(
    write: Write, encoder: Make, application: Callable[..., Application]
) -> None:
    method = write(
        {"r": 4, "target_modules": ["query"]},
        {"optimizer_type": "SGD", "optimizer_kwargs": {"lr": 0.02, "weight_decay": 0.3, "momentum": 0.5}},
    )
    assert method.learning_rate == 0.02
    optimization = method.trained_by(Optimization(learning_rate=0.02))
    optimizer = method.optimizer(method.apply(encoder(), application()), optimization)
    assert isinstance(optimizer, torch.optim.SGD)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.02, 0.3, 0.5)
    assert write({}, {}).optimizer(torch.nn.Module(), Optimization()) is None
    wrong = write({"r": 4, "target_modules": ["query"]}, {"optimizer_kwargs": {"momentum": 1}})
    model = wrong.apply(encoder(), application())
    with pytest.raises(UserError, match=r"make the optimizer of .*training_params.json"):
        wrong.optimizer(model, Optimization())
