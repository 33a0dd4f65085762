from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.base import head_names
from peftbench.models.building import build_model, build_unloaded, load_config
from peftbench.models.decoders import PRESETS as DECODERS
from peftbench.models.presets import (
    PRESETS,
    ModelSource,
    Preset,
    check_seq_len,
    llama,
    max_positions,
    raw_config,
    resolve,
)
from peftbench.models.vocabulary import load_tokenizer, vocabulary
from peftbench.tasks.base import Vocabulary
from peftbench.tasks.causal import TASKS as CAUSAL
from peftbench.tasks.choice import TASKS as CHOICE
from peftbench.tasks.classification import TASKS as CLASSIFICATION
from peftbench.tasks.span import TASKS as SPAN
from peftbench.tasks.tokens import TASKS as TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

QWEN = {
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "vocab_size": 512,
}
BY_NAME = {preset.name: preset for preset in PRESETS}
SMALL = Preset(
    name="small",
    summary="",
    model_type="bert",
    config={
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 100,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
    },
)
SMALL_SOURCE = ModelSource("small", preset=SMALL)
NLI, SENTIMENT = CLASSIFICATION[:2]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder that holds a fine-tuned model of 3 classes."""
    folder = tmp_path / "checkpoint"
    build_model(SMALL_SOURCE, NLI, seed=7).save_pretrained(folder)
    return folder


def parameters(config: dict[str, int]) -> int:
    """Parameters of a BERT or XLM-R with its pooler, from the paper's description of the architecture."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    norm = 2 * hidden
    vectors = config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]
    attention = 4 * (hidden + 1) * hidden + norm
    feed_forward = (hidden + 1) * inner + (inner + 1) * hidden + norm
    pooler = (hidden + 1) * hidden
    return vectors * hidden + norm + config["num_hidden_layers"] * (attention + feed_forward) + pooler


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("tiny", None),
        ("tiny-xlmr", None),
        ("bert-base", 109_482_240),
        ("xlmr-base", 278_043_648),
        ("xlmr-large", 559_890_432),
        ("indicbert-v2", 278_041_344),
    ],
)
def test_presets_have_the_published_number_of_parameters(name: str, published: int | None) -> None:
    import torch
    from transformers import AutoModel

    config = load_config(resolve(name, BY_NAME))
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    total = sum(weight.numel() for weight in model.parameters())
    assert total == parameters(config.to_dict())
    assert total == (published or total)


# Of the files on the hub (safetensors metadata, of 2025), what is stored twice counted once; that of Llama-3.2-3B also
# stands in PEFT's comparison.
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("smollm2-135m", 134_515_008),
        ("qwen3-0.6b", 596_049_920),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.2-3b", 3_212_749_824),
        ("llama-3.1-8b", 8_030_261_248),
        ("qwen3-8b", 8_190_735_360),
    ],
)
def test_language_models_have_the_published_number_of_parameters(name: str, published: int) -> None:
    source = resolve(name, {preset.name: preset for preset in DECODERS})
    assert sum(weight.numel() for weight in build_unloaded(source, *CAUSAL).parameters()) == published
    check_seq_len(name, raw_config(source), CAUSAL[0].max_length)


@pytest.mark.parametrize("name", ["tiny", "tiny-xlmr", "tiny-llama", "tiny-qwen3"])
def test_a_preset_is_drawn_by_the_models_own_rules_in_its_dtype(name: str) -> None:
    """What transformers builds at once is drawn on `meta` and filled later: nothing must be left unfilled."""
    import torch
    import transformers

    qwen = Preset(name="tiny-qwen3", summary="", model_type="qwen3", config=llama(**QWEN), tasks=("sft",))
    source = resolve(name, {**BY_NAME, qwen.name: qwen})
    task = CAUSAL[0] if source.preset and source.preset.tasks else NLI
    ours = build_model(source, task, seed=0, dtype="bfloat16")
    at_once = getattr(transformers, task.head).from_config(ours.config, dtype=torch.bfloat16)
    assert {name: (p.shape, p.dtype) for name, p in ours.named_parameters()} == {
        name: (p.shape, p.dtype) for name, p in at_once.named_parameters()
    }
    for buffer_name, buffer in at_once.named_buffers():
        assert ours.get_buffer(buffer_name).equal(buffer), buffer_name
    for parameter_name, parameter in at_once.named_parameters():
        own = ours.get_parameter(parameter_name).float()
        torch.testing.assert_close(own.std(), parameter.float().std(), rtol=0.2, atol=1e-6)
        torch.testing.assert_close(own.mean(), parameter.float().mean(), rtol=0, atol=0.01)
    if task is CAUSAL[0]:
        assert ours.get_output_embeddings().weight is ours.get_input_embeddings().weight


def test_a_preset_has_its_buffers_where_the_models_rules_fill_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in transformers 4: positions were whatever lay in memory, and the embeddings were asked for them."""
    from transformers import BertPreTrainedModel

    monkeypatch.setattr(BertPreTrainedModel, "_init_weights", lambda *_: None)
    model = build_model(SMALL_SOURCE, NLI, seed=0)
    positions = model.get_buffer("bert.embeddings.position_ids")
    assert positions.flatten().tolist() == list(range(positions.numel()))


def test_every_preset_takes_the_sequences_that_it_and_the_tasks_ask_for() -> None:
    for preset in PRESETS:
        config = raw_config(ModelSource(preset.name, preset=preset))
        lengths = [preset.seq_len] if preset.seq_len else [task.max_length for task in (*CLASSIFICATION, *SPAN)]
        for seq_len in lengths:
            check_seq_len(preset.name, config, seq_len)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "t5"}, None),
        ({"model_type": "xlnet", "max_position_embeddings": -1}, None),
    ],
)
def test_positions_that_hold_tokens(config: dict[str, Any], expected: int | None) -> None:
    assert max_positions(config) == expected


@pytest.mark.parametrize("name", ["tiny", "tiny-xlmr"])
def test_an_encoder_has_no_language_model_head_to_fine_tune(name: str) -> None:
    with pytest.raises(
        UnsupportedError, match=r"^an encoder is not trained as .*: no AutoModelForCausalLM for model type"
    ):
        build_model(resolve(name, BY_NAME), *CAUSAL, seed=0)


def test_an_encoder_with_a_decoder_is_not_taken_apart_for_a_language_model(tmp_path: Path) -> None:
    from transformers import BartConfig, BartModel

    BartModel(BartConfig(vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1)).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError, match=r"^an encoder is not trained as .* for model type 'bart'"):
        build_unloaded(resolve(str(tmp_path), BY_NAME), CAUSAL[0])


def test_a_language_models_projection_is_backbone_and_what_a_task_adds_is_head() -> None:
    source = resolve("tiny-llama", BY_NAME)
    assert head_names(build_model(source, *CAUSAL, seed=0)) == frozenset()
    assert head_names(build_model(source, NLI, seed=0)) == {"score"}


@pytest.mark.parametrize("name", ["tiny", "tiny-xlmr"])
def test_the_longest_sequence_is_the_longest_that_runs(name: str) -> None:
    import torch

    source = resolve(name, BY_NAME)
    longest = max_positions(raw_config(source))
    assert longest == 128
    model = build_model(source, SENTIMENT, seed=0)
    assert model(input_ids=torch.full((1, longest), 7)).logits.shape == (1, 2)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 7))
    with pytest.raises(UserError, match=f"129 is too long: model '{name}' has positions for 128 tokens"):
        check_seq_len(name, raw_config(source), 129)
    with pytest.raises(UserError, match="sequence length 7 is too short"):
        check_seq_len(name, raw_config(source), 7)


def test_the_seed_alone_decides_the_weights_and_the_callers_random_state_stays() -> None:
    import torch

    torch.manual_seed(1)
    first = build_model(SMALL_SOURCE, NLI, seed=3).state_dict()
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.rand(3).equal(drawn)
    torch.manual_seed(2)
    again = build_model(SMALL_SOURCE, NLI, seed=3).state_dict()
    other = build_model(SMALL_SOURCE, NLI, seed=4).state_dict()
    assert all(weight.equal(again[name]) for name, weight in first.items())
    assert not first["classifier.weight"].equal(other["classifier.weight"])


def test_the_model_is_ready_to_be_trained_as_its_configuration_says() -> None:
    import torch

    model = build_model(SMALL_SOURCE, NLI, seed=0, dtype="bfloat16", attention="eager")
    assert model.training
    assert model.dtype == torch.bfloat16
    assert model.device.type == "cpu"
    assert model.config._attn_implementation == "eager"
    assert model.config.hidden_dropout_prob == 0.1
    assert model.config.problem_type == "single_label_classification"
    assert model.config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}


def test_a_folder_gives_its_backbone_and_a_seeded_head(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = resolve(str(checkpoint), BY_NAME)
    assert not source.random_weights
    saved = build_model(SMALL_SOURCE, NLI, seed=7).state_dict()
    capfd.readouterr()
    model = build_model(source, TOKENS[0], seed=1)
    again = build_model(source, TOKENS[0], seed=1)
    other = build_model(source, TOKENS[0], seed=2)
    assert capfd.readouterr() == ("", "")
    assert model.classifier.out_features == 7
    assert model.classifier.weight.equal(again.classifier.weight)
    assert not model.classifier.weight.equal(other.classifier.weight)
    body = {name: weight for name, weight in model.state_dict().items() if name.startswith("bert.")}
    assert body
    assert all(weight.equal(saved[name]) for name, weight in body.items())
    assert model.training


def test_a_head_of_the_same_task_is_kept_and_one_of_other_classes_replaced(checkpoint: Path) -> None:
    source = resolve(str(checkpoint), BY_NAME)
    saved = build_model(SMALL_SOURCE, NLI, seed=7)
    assert build_model(source, NLI, seed=1).classifier.weight.equal(saved.classifier.weight)
    assert build_model(source, SENTIMENT, seed=1).classifier.out_features == 2
    # The checkpoint's configuration has 3 classes; a span has a start and an end all the same.
    assert build_model(source, SPAN[0], seed=1).qa_outputs.out_features == 2
    assert build_model(source, CHOICE[0], seed=1).classifier.out_features == 1


def test_loading_leaves_log_level_and_progress_bars_as_they_were(checkpoint: Path) -> None:
    import logging

    from transformers.utils import logging as transformers_logging

    level = logging.getLogger("transformers").level
    build_model(resolve(str(checkpoint), BY_NAME), NLI, seed=0)
    assert transformers_logging.is_progress_bar_enabled()
    assert logging.getLogger("transformers").level == level


def resolve_error(name: object) -> str:
    with pytest.raises(UserError) as error:
        resolve(str(name), BY_NAME)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    assert resolve_error("tinny").startswith("unknown model 'tinny': did you mean 'tiny'? known: bert-base, ")


@pytest.mark.parametrize("name", ["./none", "/none/such/folder", "~/none", "../none", "a/b/c"])
def test_a_folder_that_does_not_exist(name: str) -> None:
    assert resolve_error(name) == (
        f"model folder {name!r} does not exist: give a folder with config.json and model.safetensors"
    )


def test_owner_slash_name_is_a_hub_id() -> None:
    source = resolve("google-bert/bert-base-uncased", BY_NAME)
    assert (source.preset, source.folder, source.location) == (None, None, "google-bert/bert-base-uncased")
    assert raw_config(source) == {}


def test_folders_that_hold_no_model(checkpoint: Path, tmp_path: Path) -> None:
    assert "is a file: give the folder" in resolve_error(checkpoint / "config.json")
    assert "has no weights: it must hold model.safetensors" in resolve_error(tmp_path)
    config = checkpoint / "config.json"
    config.write_text('{"model_type": ')
    assert f"{config} cannot be read: Expecting value: line 1" in resolve_error(checkpoint)
    config.write_text("[]")
    assert "is no model's configuration" in resolve_error(checkpoint)
    config.unlink()
    assert "has no config.json" in resolve_error(checkpoint)


def test_weights_cut_short_are_found_before_anything_is_built(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    data = weights.read_bytes()
    for size in (0, 4, 100, len(data) - 1):
        weights.write_bytes(data[:size])
        assert f"weights {weights} cannot be read, the file is cut short or broken" in resolve_error(checkpoint)


def test_pickles_are_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    assert "holds only pickled weights (pytorch_model.bin), which can run code: only safetensors" in resolve_error(
        checkpoint
    )


def test_a_checkpoint_of_another_backbone_is_refused(checkpoint: Path) -> None:
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    for change in ({"num_hidden_layers": 2}, {"intermediate_size": 128}):
        path.write_text(json.dumps({**config, **change}))
        with pytest.raises(UserError, match=r"does not hold the backbone that its config.json describes: \d+ weights"):
            build_model(resolve(str(checkpoint), BY_NAME), NLI, seed=0)


def test_a_backbone_without_a_pooler_gets_a_seeded_one(checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if ".pooler." not in name}
    assert len(kept) < len(weights)
    save_file(kept, checkpoint / "model.safetensors", metadata={"format": "pt"})
    source = resolve(str(checkpoint), BY_NAME)
    first, again = (build_model(source, NLI, seed=5).bert.pooler.dense.weight for _ in range(2))
    assert first.equal(again)


def test_errors_of_transformers_become_one_line(checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"model 'small' cannot be loaded: Specified `attn_implementation=\"nope\"`"):
        build_model(SMALL_SOURCE, NLI, seed=0, attention="nope")
    path = checkpoint / "config.json"
    path.write_text(json.dumps({"model_type": "no-such-model"}))
    with pytest.raises(UserError) as error:
        load_config(resolve(str(checkpoint), BY_NAME))
    assert str(error.value).startswith(f"configuration of model {str(checkpoint)!r} cannot be loaded: ")
    assert "\n" not in str(error.value)


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    source = resolve("no-such-owner/no-such-model", BY_NAME)
    for load in (load_config, load_tokenizer, lambda source: build_model(source, NLI, seed=0)):
        with pytest.raises(UserError, match=r"'no-such-owner/no-such-model' cannot be loaded: .*; give a preset, or a"):
            load(source)


def test_a_tokenizer_of_the_hub_that_has_to_be_converted_is_told_how(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants
    from transformers import AutoTokenizer

    def fails(error: Exception) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for error, message in (
        (
            ValueError("`tiktoken` is required"),
            r"it has no tokenizer\.json and cannot be converted; install sentencepiece",
        ),
        (ImportError("install sacremoses to use XLMTokenizer"), "cannot be loaded: install sacremoses to use XLM"),
    ):
        monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, error=error, **__: fails(error))
        with pytest.raises(UserError, match=message):
            load_tokenizer(resolve("some-owner/some-model", BY_NAME))


def test_a_head_that_transformers_lacks_is_unsupported() -> None:
    config = {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 50}
    source = ModelSource("gpt", preset=Preset(name="gpt", summary="", model_type="gpt2", config=config))
    with pytest.raises(UnsupportedError, match="no AutoModelForMultipleChoice for model type 'gpt2'"):
        build_model(source, CHOICE[0], seed=0)


def test_presets_have_no_tokenizer_and_folders_their_own(wordpiece: PreTrainedTokenizerFast, checkpoint: Path) -> None:
    with pytest.raises(UserError, match="preset 'tiny' has no tokenizer: use a model folder"):
        load_tokenizer(resolve("tiny", BY_NAME))
    with pytest.raises(UserError, match=r"comes without its tokenizer: save tokenizer\.json"):
        load_tokenizer(resolve(str(checkpoint), BY_NAME))
    wordpiece.save_pretrained(checkpoint)
    tokenizer = load_tokenizer(resolve(str(checkpoint), BY_NAME))
    assert tokenizer("the queen").input_ids == wordpiece("the queen").input_ids


def test_a_tokenizer_that_has_to_be_converted_is_told_how(checkpoint: Path) -> None:
    (checkpoint / "tokenizer_config.json").write_text('{"tokenizer_class": "DebertaV2Tokenizer"}')
    (checkpoint / "spm.model").write_bytes(b"no model of sentencepiece")
    source = resolve(str(checkpoint), BY_NAME)
    with pytest.raises(UserError) as error:
        load_tokenizer(source)
    assert str(error.value) == (
        f"tokenizer of model {source.name!r} cannot be loaded: it has no tokenizer.json and cannot be converted; "
        "install sentencepiece and protobuf, load it once, and save_pretrained it into the model's folder"
    )
    (checkpoint / "tokenizer.json").write_text("{}")  # what is wrong now is this file
    with pytest.raises(UserError, match=r"cannot be loaded: (?!it has no)"):
        load_tokenizer(source)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DebertaV2Tokenizer", "comes without its tokenizer"),  # transformers makes up one that has room for words
        ("BertJapaneseTokenizer", "cannot be loaded: it has no tokenizer.json"),  # fails with a TypeError
    ],
)
def test_a_tokenizer_whose_files_are_not_there_is_told(checkpoint: Path, name: str, message: str) -> None:
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    with pytest.raises(UserError, match=re.escape(message)):
        load_tokenizer(resolve(str(checkpoint), BY_NAME))


def test_token_ids_come_from_the_tokenizer_else_from_the_configuration(wordpiece: PreTrainedTokenizerFast) -> None:
    tiny, xlmr = (load_config(resolve(name, BY_NAME)) for name in ("tiny", "tiny-xlmr"))
    assert vocabulary(tiny) == Vocabulary(size=512, pad=0, start=2, separator=3, segments=2)
    assert vocabulary(xlmr) == Vocabulary(size=512, pad=1, start=0, separator=2, segments=1)
    assert vocabulary(load_config(SMALL_SOURCE)) == Vocabulary(size=100, pad=0, start=1, separator=2, segments=2)
    unpadded = type(xlmr)(vocab_size=512, pad_token_id=None, bos_token_id=500, eos_token_id=501)
    assert vocabulary(unpadded).pad == 501
    unpadded.eos_token_id = [501, 502]
    assert vocabulary(unpadded).pad == 0
    assert vocabulary(xlmr, wordpiece) == Vocabulary(size=512, pad=0, start=2, separator=3, segments=1)


def test_definitions_import_neither_torch_nor_transformers(checkpoint: Path) -> None:
    script = (
        "import sys; from peftbench.data import rows, sources; from peftbench.models import presets as models;"
        "from peftbench.tasks import choice, classification, scores, span, tokens;"
        "known = {preset.name: preset for preset in models.PRESETS};"
        "[models.raw_config(models.resolve(name, known)) for name in ('tiny', sys.argv[1])];"
        "sys.exit(', '.join({'torch', 'transformers', 'datasets', 'sklearn'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint)],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[3] / "src")},
    )
    assert (done.returncode, done.stderr) == (0, "")
