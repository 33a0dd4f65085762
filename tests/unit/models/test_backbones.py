"""Backbones of every kind: what is head and what is body, which weights, ids and positions, which layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tools.backbones import ARCHITECTURES, POSITIONS, VOCABULARY
from transformers import AutoConfig, AutoModel, AutoModelForQuestionAnswering, LlamaConfig, LlamaForCausalLM

from peftbench.config.settings import Settings
from peftbench.errors import UnsupportedError, UserError
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.methods.base import head_names, is_head, place_of_plain
from peftbench.models import presets as models
from peftbench.models.building import build_model, load_config
from peftbench.models.vocabulary import load_tokenizer, vocabulary
from peftbench.records.ids import Case
from peftbench.records.record import Record
from peftbench.run.runner import Runner
from peftbench.validity import check as validity
from peftbench.workloads.backend import Backend

CATALOGUE = Catalogue.load()
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}

Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Save an architecture of the tool's, once."""
    folders: dict[str, Path] = {}

    def save(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("backbone")
            BY_NAME[name].save(folders[name])
        return folders[name]

    return save


def opened(folder: Path, *tasks: str, **settings: Any) -> Backend:  # noqa: ANN401 - any setting
    chosen = Settings(**{"model": str(folder), "device": "cpu", "rounds": 1, "seq_len": 16, **settings})
    return Backend.open(chosen, CATALOGUE, [CATALOGUE.task(name) for name in tasks])


def measured(backend: Backend, method: str, task: str = "nli") -> Record:
    runner = Runner(backend, session="s")
    case = Case(parse_method(method), task, 2)
    record = runner.measure(case, CATALOGUE.workload("train_step"), id=case.id, observer=lambda timed: timed)
    runner.close()
    return record


def built(folder: Path, task: str) -> Any:  # noqa: ANN401 - a model of transformers
    return build_model(models.resolve(str(folder), CATALOGUE.models), CATALOGUE.task(task), seed=0)


@pytest.mark.parametrize(
    ("name", "task", "head"),
    [
        ("T5", "qa", {"qa_outputs"}),  # whose encoder and decoder stand beside the head
        ("mT5", "qa", {"qa_outputs"}),
        ("T5", "nli", {"classification_head"}),
        ("Llama", "qa", {"qa_outputs"}),  # whose backbone is called otherwise than in other classes
        ("BERT", "qa", {"qa_outputs"}),
    ],
)
def test_the_head_is_what_the_plain_model_has_not(name: str, task: str, head: set[str], saved: Saved) -> None:
    model = built(saved(name), task)
    heads = head_names(model)
    assert {child for child in heads if [*getattr(model, child).parameters()]} == head
    group = opened(saved(name), task).group(task, 2)
    record = validity.check(group.subject(parse_method("head")))
    trained = f"{sum(1 for child in head for _ in getattr(model, child).parameters())} trained tensors"
    assert any(fact.startswith(trained) for fact in record.facts)


@pytest.mark.parametrize(
    ("method", "place"), [("full", ""), ("lora", "base_model.model."), ("prompt-tuning", "base_model.")]
)
def test_the_plain_model_is_found_in_what_a_method_returned(method: str, place: str, saved: Saved) -> None:
    """Llama's backbone is itself called `model`, so that names alone do not tell."""
    group = opened(saved("Llama"), "nli").group("nli", 2)
    plain = {name for name, _ in group.template.named_parameters()}
    model = group.subject(parse_method(method)).applied_model()
    assert place_of_plain(model) == place
    names = {name.removeprefix(place) for name, _ in model.named_parameters()}
    kept = {name for name in plain if name.startswith("model.") and "q_proj" not in name and "v_proj" not in name}
    assert kept <= names
    assert {name for name in names if is_head(name, head_names(group.template))} == {
        name for name in names if name.startswith("score.")
    }


@pytest.mark.parametrize("name", ["Llama", "BART", "EuroBERT", "OPT", "Mixtral"])
def test_a_merged_model_has_the_plain_models_names_whatever_they_begin_with(name: str, saved: Saved) -> None:
    proof = validity.check(opened(saved(name), "nli").group("nli", 2).subject(parse_method("lora")))
    assert any(fact.startswith("merged: ") for fact in proof.facts)


@pytest.mark.parametrize("saved_as", ["trained", "plain", "span"])
def test_the_backbone_is_read_whatever_the_class_calls_it_that_wrote_it(
    saved_as: str, saved: Saved, tmp_path: Path
) -> None:
    """Transformers' class for spans on Llama says `transformer` where all others say `model`."""
    source = saved("Llama")
    if saved_as != "trained":
        auto_class = AutoModel if saved_as == "plain" else AutoModelForQuestionAnswering
        config = AutoConfig.from_pretrained(source)
        auto_class.from_config(config).save_pretrained(tmp_path)
        source = tmp_path
    weights = load_file(source / "model.safetensors")
    wanted = next(tensor for name, tensor in weights.items() if name.endswith("layers.1.mlp.up_proj.weight"))
    for task in ("qa", "nli"):
        model = built(source, task)
        assert torch.equal(model.base_model.layers[1].mlp.up_proj.weight, wanted)


def test_a_checkpoint_without_its_backbone_is_refused_for_spans_too(saved: Saved, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(saved("Llama"))
    AutoModelForQuestionAnswering.from_config(config).qa_outputs.half()
    LlamaForCausalLM(LlamaConfig(**{**config.to_dict(), "num_hidden_layers": 1})).save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"does not hold the backbone .* transformer\.layers\.1\..* among them"):
        built(tmp_path, "qa")


def test_what_one_case_cannot_do_is_its_row(saved: Saved) -> None:
    record = measured(opened(saved("BERT"), "nli"), "lora(r=999)")
    assert record.status == "failed"
    assert record.reason == "lora(r=999): must be from 1 to 32, the smallest dimension of the adapted layers"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("lora(rank=4)", "unknown option of lora 'rank'"),
        ("full(r=4)", "full has nothing to configure, but was given r"),
    ],
)
def test_an_override_that_no_model_could_take_is_known_without_one(method: str, message: str) -> None:
    spec = parse_method(method)
    with pytest.raises(UserError, match=message):
        CATALOGUE.method(spec.name).check(dict(spec.overrides))


@pytest.mark.parametrize("name", ["Gemma 3 (vision)", "ModernVBERT"])
def test_a_model_that_reads_images_too_is_measured_on_texts_and_adapted_where_it_reads_them(
    name: str, saved: Saved
) -> None:
    backend = opened(saved(name), "nli")
    assert backend.vocabulary.size == VOCABULARY
    record = measured(backend, "lora")
    assert record.status == "ok", record.reason
    assert record.modules
    assert not [module for module in record.modules if "vision" in module]


def test_a_model_that_reads_characters_is_measured_and_layers_that_its_loss_passes_by_are_said(saved: Saved) -> None:
    backend = opened(saved("Canine"), "nli", attention="eager")
    assert backend.vocabulary.size == 0x110000
    record = measured(backend, "lora")
    assert record.status == "ok", record.reason
    assert any("final_char_encoder" in warning and "did not change" in warning for warning in record.warnings)


def test_a_model_that_reads_no_text_is_refused_in_one_line(saved: Saved) -> None:
    with pytest.raises(UserError, match=r"^model type 'vit' reads no text: its configuration has no vocab_size$"):
        opened(saved("ViT"), "nli")


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("GPT-2", POSITIONS),
        ("GPT-J", POSITIONS),
        ("CTRL", POSITIONS),
        ("GPTBigCode", POSITIONS),
        ("RoBERTa", POSITIONS),
    ],
)
def test_the_longest_batch_is_as_long_as_the_models_positions(name: str, tokens: int, saved: Saved) -> None:
    attention = "eager" if name in ("CTRL", "GPT-J") else "sdpa"
    backend = opened(saved(name), "nli", seq_len=None, attention=attention)
    assert backend.seq_len(CATALOGUE.task("nli")) == tokens
    record = measured(backend, "full")
    assert record.status == "ok", record.reason
    assert record.seq_len == tokens
    with pytest.raises(UserError, match=f"sequence length {tokens + 1} is too long"):
        opened(saved(name), "nli", seq_len=tokens + 1, attention=attention)


@pytest.mark.parametrize("pad", [-1, VOCABULARY, None])
def test_a_padding_id_that_the_embeddings_have_not_is_passed_over(
    pad: int | None, saved: Saved, tmp_path: Path
) -> None:
    folder = _edited(saved("Llama"), tmp_path, pad_token_id=pad)
    assert vocabulary(load_config(models.resolve(str(folder), {}))).pad == 3  # what ends a text
    backend = opened(folder, "nli")
    record = measured(backend, "full")
    assert record.status == "ok", record.reason
    assert backend.new_model(CATALOGUE.task("nli"), 0).config.pad_token_id == 3


def test_a_padding_token_that_only_the_tokenizer_has_is_not_used(saved: Saved) -> None:
    source = models.resolve(str(saved("Llama")), {})
    tokenizer = load_tokenizer(source)
    tokenizer.add_special_tokens({"pad_token": "<new>"})
    while tokenizer.pad_token_id < VOCABULARY:
        tokenizer.add_tokens([f"<{len(tokenizer)}>"])
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(len(tokenizer) - 1)
    assert vocabulary(load_config(source), tokenizer).pad == 3


@pytest.mark.parametrize(
    ("name", "names", "inner", "origin"),
    [
        ("Qwen3", {"q_proj", "v_proj", "down_proj"}, {"down_proj"}, "PEFT"),  # PEFT's own default
        ("GPT-2", {"c_attn", "mlp.c_proj"}, {"mlp.c_proj"}, "PEFT"),
        ("Phi-3", {"qkv_proj", "mlp.down_proj"}, {"mlp.down_proj"}, "shape"),
        ("ModernBERT", {"Wqkv", "mlp.Wo"}, {"mlp.Wo"}, "shape"),
        ("DistilBERT", {"k_lin", "v_lin", "ffn.lin2"}, {"ffn.lin2"}, "shape"),
        ("XLM", {"k_lin", "v_lin", "lin2"}, {"lin2"}, "shape"),
        ("CTRL", {"Wk", "Wv", "ffn.2"}, {"ffn.2"}, "shape"),
        ("Funnel", {"k_head", "v_head", "0.ffn.linear_2"}, {"0.ffn.linear_2"}, "shape"),
    ],
)
def test_ia3_takes_peft_s_layers_or_tells_them_by_shape_and_place_and_says_so(
    name: str, names: set[str], inner: set[str], origin: str, saved: Saved
) -> None:
    subject = opened(saved(name), "nli", attention="eager").group("nli", 2).subject(parse_method("ia3"))
    config: Any = subject.method.apply(subject.fresh_model(), subject.application)
    config = config.peft_config["default"]
    assert (set(config.target_modules), set(config.feedforward_modules)) == (names, inner)
    notes = validity.check(subject).notes
    assert any("told by the shape and place" in note for note in notes) is (origin == "shape")


def test_layers_that_peft_names_and_the_model_lacks_are_said(saved: Saved) -> None:
    subject = opened(saved("Mixtral"), "nli").group("nli", 2).subject(parse_method("ia3"))
    assert "of PEFT's default layers for mixtral this model has no w2" in validity.check(subject).notes


def test_a_prompt_that_does_not_fit_beside_the_text_says_what_to_do(saved: Saved) -> None:
    record = measured(opened(saved("BERT"), "nli", seq_len=None), "prompt-tuning")
    assert record.status == "unsupported"
    assert record.reason == (
        "prompt-tuning puts 20 tokens before 64, and the model has positions for 64: "
        "give --peftbench-seq-len=44 or less"
    )
    assert measured(opened(saved("BERT"), "nli", seq_len=44), "prompt-tuning").status == "ok"


@pytest.mark.parametrize("name", ["ELECTRA", "DistilBERT"])
def test_a_prompt_is_as_wide_as_an_embedding(name: str, saved: Saved) -> None:
    """ELECTRA's are narrower than its hidden states; DistilBERT's configuration calls the width `dim`."""
    assert measured(opened(saved(name), "nli"), "prompt-tuning").status == "ok"


def test_a_fault_of_peft_while_a_model_is_run_is_a_reason(saved: Saved) -> None:
    record = measured(opened(saved("T5"), "nli"), "prefix-peft")
    assert record.status == "unsupported"
    assert record.reason.startswith("PEFT cannot train prefix-peft on t5: RuntimeError: ")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_batch_that_a_model_refuses_is_a_reason(method: str, saved: Saved) -> None:
    record = measured(opened(saved("Longformer"), "qa", attention="eager"), method, "qa")
    assert record.status == "unsupported"
    assert record.reason.startswith("longformer refuses the batch: There should be exactly three separator tokens")


@pytest.fixture
def adapted(saved: Saved, tmp_path: Path) -> Path:
    """A folder with a model and an adapter that changes what it computes."""
    from peft import LoraConfig, get_peft_model

    folder = _edited(saved("Llama"), tmp_path)
    model = get_peft_model(LlamaForCausalLM.from_pretrained(folder), LoraConfig(init_lora_weights=False))
    model.save_pretrained(folder)
    return folder


def test_of_a_folder_with_model_and_adapter_the_plain_model_is_measured(adapted: Path, saved: Saved) -> None:
    assert (adapted / "adapter_config.json").is_file()
    names = {name for name, _ in built(adapted, "nli").named_parameters()}
    assert names == {name for name, _ in built(saved("Llama"), "nli").named_parameters()}


def test_a_folder_with_an_adapter_alone_says_so(adapted: Path) -> None:
    (adapted / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds an adapter and no model: give the folder of the model that it adapts"):
        models.resolve(str(adapted), {})


def test_a_model_without_a_multiple_choice_head_is_a_row(saved: Saved) -> None:
    with pytest.raises(UnsupportedError, match="transformers has no AutoModelForMultipleChoice for model type 'llama'"):
        built(saved("Llama"), "copa")


@pytest.mark.parametrize("override", ["init_r=4", "target_r=16", "total_step=3", "tfinal=500"])
def test_adalora_with_overrides_is_measured(override: str, saved: Saved) -> None:
    record = measured(opened(saved("BERT"), "nli", rounds=8), f"adalora({override})")
    assert record.status == "ok", record.reason


def _edited(folder: Path, into: Path, **changes: object) -> Path:
    """Return a copy of a model's folder with another configuration."""
    for path in folder.iterdir():
        (into / path.name).write_bytes(path.read_bytes())
    config = json.loads((into / "config.json").read_text())
    (into / "config.json").write_text(json.dumps({**config, **changes}))
    return into
