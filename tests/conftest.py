from __future__ import annotations

import json
import os
import string
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Before anything imports torch: one thread, since small models only lose by more, and no look at the network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

WORDS = ("the", "queen", "of", "hearts", "made", "some", "tarts", "all", "on", "a", "summer", "day")


@pytest.fixture(autouse=True)
def seed() -> None:
    """Let a test draw the same, whatever ran before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no case say that it waited for a core: tests run beside others, on machines of all kinds."""
    monkeypatch.setattr("peftbench.measure.waiting.waited_s", lambda: None)


@pytest.fixture(scope="session")
def wordpiece() -> PreTrainedTokenizerFast:
    """A BERT-like tokenizer: a few whole words, else letter by letter."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *WORDS]
    ids = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, wordpiece: PreTrainedTokenizerFast) -> Path:
    """A folder with a BERT of 2 layers of 32, without dropout, and its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("model")
    config = BertConfig(
        vocab_size=len(wordpiece),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    wordpiece.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few rows of four tasks, whose labels follow from a word of the text."""
    folder = tmp_path_factory.mktemp("data")
    for split, count, seed in (("train", 40, 1), ("validation", 16, 2), ("test.xx", 12, 3)):
        random = Random(seed)
        for task, row in (("nli", _nli), ("sentiment", _sentiment), ("ner", _ner), ("qa", _qa)):
            path = folder / task / f"{split}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(json.dumps(row(random)) + "\n" for _ in range(count)))
    return folder


def _words(random: Random) -> list[str]:
    return random.choices(["the", "of", "hearts", "made", "all", "on", "a"], k=random.randint(2, 9))


def _nli(random: Random) -> dict[str, Any]:
    label = random.randrange(3)
    return {"premise": " ".join(_words(random)), "hypothesis": ("queen", "tarts", "summer")[label], "label": label}


def _sentiment(random: Random) -> dict[str, Any]:
    label = random.randrange(2)
    return {"text": " ".join([*_words(random), ("day", "some")[label]]), "label": label}


def _ner(random: Random) -> dict[str, Any]:
    tokens = [*_words(random), "queen"]
    return {"tokens": tokens, "ner_tags": ["O"] * (len(tokens) - 1) + ["B-PER"]}


def _qa(random: Random) -> dict[str, Any]:
    context = " ".join([*_words(random), "queen", *_words(random)])
    answers = {"text": ["queen"], "answer_start": [context.index("queen")]}
    return {"context": context, "question": "the queen", "answers": answers}
