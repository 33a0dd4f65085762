from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from tools.backbones import ARCHITECTURES, tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Before anything imports torch: one thread, since small models only lose by more, and no look at the network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"


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
    return tokenizer(ARCHITECTURES[0])


@pytest.fixture
def unadorned(wordpiece: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A tokenizer that puts nothing around a text but the token that ends it, which `encode` adds."""
    from tokenizers import processors

    found = copy.deepcopy(wordpiece)
    found.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    found.eos_token = "[SEP]"
    return found


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
