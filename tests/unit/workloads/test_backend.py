"""What a run refuses before it builds anything, and models that do not say all that a run needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftbench.config.settings import Settings
from peftbench.errors import UserError
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.records.ids import Case
from peftbench.run.runner import Runner
from peftbench.validity.check import check
from peftbench.workloads.backend import Backend

CATALOGUE = Catalogue.load()
NLI = CATALOGUE.task("nli")


def settings(folder: Path, **changes: object) -> Settings:
    return Settings(**{"model": str(folder), "device": "cpu", "seq_len": 8, **changes})  # type: ignore[arg-type]


def test_an_architecture_without_sdpa_is_told_the_option_that_it_needs(tmp_path: Path) -> None:
    from transformers import DebertaV2Config, DebertaV2Model

    config = DebertaV2Config(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    DebertaV2Model(config).save_pretrained(tmp_path)
    with pytest.raises(UserError) as error:
        Backend.open(settings(tmp_path), CATALOGUE, [NLI])
    assert str(error.value) == (
        f"model {str(tmp_path)!r} has no scaled-dot-product attention in transformers: give --peftbench-attention=eager"
    )
    backend = Backend.open(settings(tmp_path, attention="eager"), CATALOGUE, [NLI])
    assert backend.new_model(NLI, seed=0).config._attn_implementation == "eager"


def test_a_decoder_without_a_padding_id_learns_that_of_the_batches(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=49, eos_token_id=49)
    assert config.pad_token_id is None
    GPT2Model(config).save_pretrained(tmp_path)
    backend = Backend.open(settings(tmp_path, rounds=1, reference="none"), CATALOGUE, [NLI])
    group = backend.group("nli", 2)
    assert group.template.config.pad_token_id == backend.vocabulary.pad == 49
    lengths = [batch["input_ids"].ne(49).sum(1).tolist() for batch in group.batches]
    assert any(length < 6 for both in lengths for length in both)  # some are padded
    runner = Runner(backend, session="s")
    for method in ("full", "lora"):
        case = Case(parse_method(method), "nli", 2)
        record = runner.measure(case, CATALOGUE.workload("train_step"), id="case", observer=lambda timed: timed)
        assert (record.status, record.reason) == ("ok", "")
    runner.close()


def test_the_head_has_the_classes_that_the_data_names(tiny_model: Path, tmp_path: Path) -> None:
    import datasets

    names = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
        }
    )
    (tmp_path / "ner").mkdir()
    rows = [{"tokens": ["the", "queen"], "ner_tags": [8, 7]}]
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "ner" / "train.parquet"))
    backend = Backend.open(settings(tiny_model, data=str(tmp_path)), CATALOGUE, [CATALOGUE.task("ner")])
    group = backend.group("ner", 1)
    assert group.template.config.num_labels == group.template.classifier.out_features == len(names)
    assert group.template.config.id2label == dict(enumerate(names))
    assert [label for label in group.batches[0]["labels"][0].tolist() if label >= 0] == [8, 7]


def test_a_large_preset_is_drawn_anew_the_same_each_time_and_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftbench.workloads.backend.MOST_COPIED", 0)
    chosen = Settings(model="tiny-llama", device="cpu", seq_len=8)
    group = Backend.open(chosen, CATALOGUE, [CATALOGUE.task("sft")]).group("sft", 2)
    assert {parameter.device.type for parameter in group.template.parameters()} == {"meta"}
    first, again = group.fresh_model().state_dict(), group.fresh_model().state_dict()
    assert all(tensor.equal(again[name]) for name, tensor in first.items())
    assert group.fresh_model().config.use_cache is False
    assert group.fresh_model().config.pad_token_id == group.backend.vocabulary.pad
    assert check(group.subject(parse_method("lora"))).facts
