"""`apply_method` finds the method by name and the task by the model's head."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification

import peftbench
from peftbench.errors import UnsupportedError, UserError
from peftbench.tasks.tokens import TASKS

CONFIG = BertConfig(
    vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=2
)


def configuration(model: Any) -> Any:  # noqa: ANN401
    return model.peft_config["default"]


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("model_class", [BertForSequenceClassification, BertForTokenClassification])
def test_the_task_follows_from_the_models_head(model_class: Any) -> None:  # noqa: ANN401
    model = peftbench.apply_method("lora", model_class(CONFIG), r=2)
    assert {name.split(".")[-3] for name in trained(model)} == {"lora_A", "lora_B", "modules_to_save"}
    assert configuration(model).r == 2
    assert configuration(model).task_type in {"SEQ_CLS", "TOKEN_CLS"}


def test_the_task_can_be_named_or_given() -> None:
    for task in ("ner", TASKS[0]):
        model = peftbench.apply_method("head", BertForTokenClassification(CONFIG), task=task)
        assert trained(model) == {"classifier.weight", "classifier.bias"}


def test_the_training_is_scheduled_by_its_length() -> None:
    model = peftbench.apply_method("adalora", BertForSequenceClassification(CONFIG), total_steps=77)
    assert configuration(model).total_step == 77


def test_the_new_weights_follow_from_the_seed() -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        model = peftbench.apply_method("lora", BertForSequenceClassification(CONFIG), seed=seed)
        return [parameter for name, parameter in model.named_parameters() if "lora_A" in name]

    assert all(torch.equal(*pair) for pair in zip(weights(1), weights(1), strict=True))
    assert not any(torch.equal(*pair) for pair in zip(weights(1), weights(2), strict=True))


def test_an_adapters_folder_is_applied_and_a_family_is_no_method(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 3, "target_modules": ["key"]}')
    model = peftbench.apply_method(str(tmp_path), BertForSequenceClassification(CONFIG))
    assert {name.split(".")[-4] for name in trained(model) if "lora" in name} == {"key"}
    assert configuration(peftbench.apply_method(str(tmp_path), BertForSequenceClassification(CONFIG), r=5)).r == 5
    with pytest.raises(UserError, match=r"'paper' is no single method"):
        peftbench.apply_method("paper", BertForSequenceClassification(CONFIG))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(UserError, match="unknown method 'lorra': did you mean 'lora'"):
        peftbench.apply_method("lorra", BertForSequenceClassification(CONFIG))
    with pytest.raises(UserError, match="unknown task 'nerr': did you mean 'ner'"):
        peftbench.apply_method("lora", BertForSequenceClassification(CONFIG), task="nerr")
    with pytest.raises(UserError, match="task ner needs a model of AutoModelForTokenClassification, this is a Bert"):
        peftbench.apply_method("lora", BertForSequenceClassification(CONFIG), task="ner")
    with pytest.raises(UserError, match=r"BertForMaskedLM has no task head; its class must be one of \*ForSequence"):
        peftbench.apply_method("lora", BertForMaskedLM(CONFIG))


def test_an_unsupported_pair_says_why() -> None:
    with pytest.raises(UnsupportedError, match=r"^prompt-tuning cannot do ner: PEFT lengthens the input"):
        peftbench.apply_method("prompt-tuning", BertForTokenClassification(CONFIG))


def test_importing_the_package_and_the_definitions_imports_no_torch() -> None:
    heavy = "{'torch', 'transformers', 'peft', 'datasets'}"
    script = f"""
import sys, peftbench.api, peftbench.methods.basic, peftbench.methods.peft
print(sorted({heavy} & sys.modules.keys()))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
