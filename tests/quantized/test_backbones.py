"""Backbones in few bits: they train, merge and are counted for what they are, or say in one line why not."""

import copy
import importlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from peftbench.errors import UnsupportedError, UserError, ValidityError
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.counters.parameters import count_parameters
from peftbench.measure.memory.device_memory import parts
from peftbench.methods.base import Application
from peftbench.methods.peft.adapter_folder import AdapterFolder
from peftbench.methods.peft.folder import FolderMethod
from peftbench.methods.preparation import preparation_s
from peftbench.tasks.causal import TASKS
from peftbench.validity import check as validity
from peftbench.validity.check import check
from peftbench.workloads.subject import Subject

CATALOGUE = Catalogue.load()
WIDTH, LAYERS, INNER, VOCABULARY = 128, 2, 256, 64
LINEAR = LAYERS * (2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2 + 3 * WIDTH * INNER)
"""Weights of the backbone's linear layers: queries and outputs, keys and values of half the heads, the feed-forward."""


def decoder() -> Any:  # noqa: ANN401 - a model of transformers
    config = AutoConfig.for_model(
        "llama", hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=VOCABULARY, max_position_embeddings=32, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config)


DECODER = decoder()


def subject(name: str, **overrides: Any) -> Subject:  # noqa: ANN401 - of any option
    ids = torch.randint(3, VOCABULARY, (4, 8), generator=torch.Generator().manual_seed(0))
    batches = ({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids},)
    return Subject(
        method=CATALOGUE.method(name),
        application=Application(task=TASKS[0], overrides=overrides, batches=batches),
        batches=batches,
        fresh_model=partial(copy.deepcopy, DECODER),
    )


@pytest.mark.parametrize(
    ("name", "scheme"), [("qlora", "nf4"), ("lora", "int8"), ("lora", "torchao-int8"), ("dora", "nf4")]
)
@pytest.mark.filterwarnings("ignore:(Merge|Unmerge) lora module:UserWarning")
def test_lora_trains_on_a_quantised_backbone_and_merges_into_it(name: str, scheme: str) -> None:
    proof = check(subject(name, **({} if name == "qlora" else {"quantization": scheme})))
    assert any("prepare_model_for_kbit_training" in note and scheme in note for note in proof.notes)
    merged = [fact for fact in proof.facts if fact.startswith("merged: the output differs by")]
    assert merged, (proof.facts, proof.notes)


@pytest.mark.filterwarnings("ignore:(Merge|Unmerge) lora module:UserWarning")
def test_a_merge_that_loses_the_adapter_is_found_in_spite_of_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora.bnb import Linear4bit

    monkeypatch.setattr(Linear4bit, "get_delta_weight", lambda layer, _: torch.zeros(layer.weight.quant_state.shape))
    monkeypatch.setattr(validity, "_REQUANTISED", float("inf"))
    with pytest.raises(ValidityError, match="as near to that without the method"):
        check(subject("qlora"))


@pytest.mark.parametrize(("scheme", "weight_bytes"), [("nf4", 0.5), ("int8", 1.0), ("torchao-int8", 1.0)])
def test_bytes_and_parameters_are_those_of_the_quantised_weights(scheme: str, weight_bytes: float) -> None:
    plain = Subject.applied_model(subject("lora"))
    asked = subject("lora", quantization=scheme)
    model = asked.applied_model()
    assert count_parameters(model, frozenset()).total == count_parameters(plain, frozenset()).total
    assert (preparation_s(model) or 0) > 0
    model(**asked.batches[0]).loss.backward()  # the first pass moves scales from one place to another
    saved = parts(plain).weights_bytes - parts(model).weights_bytes
    scales = 4 * LINEAR - saved - weight_bytes * LINEAR
    # nf4: a byte for 64 weights and tables; the others: a float for a row of 128 or more.
    assert LINEAR / 256 < scales < LINEAR / 8, scales


def test_a_checkpoint_of_qlora_is_one_of_lora() -> None:
    plain, quantised = check(subject("lora")).checkpoint, check(subject("qlora")).checkpoint
    assert plain is not None
    assert quantised is not None
    assert plain.tensor_bytes == quantised.tensor_bytes


@pytest.mark.filterwarnings("ignore:(Merge|Unmerge) lora module:UserWarning")
def test_a_trained_adapter_is_put_on_a_quantised_backbone(tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(copy.deepcopy(DECODER), config).save_pretrained(tmp_path, save_embedding_layers=False)
    method = FolderMethod.of("mine", AdapterFolder.read(tmp_path))
    method.check({"quantization": "nf4"})
    asked = replace(subject("lora", quantization="nf4"), method=method)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    model = asked.applied_model()
    assert (
        type(model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj.base_layer")).__name__
        == "Linear4bit"
    )
    loaded = {name: tensor for name, tensor in model.state_dict().items() if "lora_" in name}
    assert loaded.keys() == {name.replace(".weight", ".default.weight") for name in weights}
    assert all(torch.equal(loaded[name.replace(".weight", ".default.weight")], one) for name, one in weights.items())
    assert check(asked).steps


def test_a_tuner_without_a_merge_trains_on_a_quantised_backbone_and_one_that_does_not_fit_says_so() -> None:
    assert check(subject("prompt-tuning", quantization="int8")).steps
    with pytest.raises(UserError, match=r"^PEFT cannot run loha on llama: RuntimeError: .*cannot be multiplied"):
        check(subject("loha", quantization="nf4"))


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("lora", {"quantization": "torchao-int4"}, r"^quantization=torchao-int4 needs a CUDA device and .*bfloat16"),
        ("loftq", {}, r"^PEFT computes LoftQ on an accelerator only"),
        ("lora", {"init_lora_weights": "loftq"}, r"^loftq starts from a quantised backbone"),
    ],
)
def test_what_a_cpu_cannot_do_is_refused_in_one_line(name: str, overrides: dict[str, str], message: str) -> None:
    asked = subject(name, **overrides)
    with pytest.raises(UnsupportedError, match=message) as caught:
        asked.applied_model()
    assert "\n" not in str(caught.value)


def test_a_library_that_is_missing_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_bitsandbytes(name: str, package: str | None = None) -> object:
        if name == "bitsandbytes":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return imported(name, package)

    imported = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", without_bitsandbytes)
    with pytest.raises(UnsupportedError, match=r"^quantization=nf4 needs bitsandbytes: pip install 'peftbench\[quant"):
        subject("qlora").applied_model()


def test_an_unknown_quantization_is_known_before_anything_is_measured() -> None:
    with pytest.raises(UserError, match="unknown quantization 'nf5': did you mean 'nf4'"):
        CATALOGUE.method("lora").check({"quantization": "nf5"})
    with pytest.raises(UserError, match="must be the name of a quantization"):
        CATALOGUE.method("lora").check({"quantization": 4})
