from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from peftbench.baseline.snapshot import Case, Profile, Session, Snapshot
from peftbench.tasks.base import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORDS = ("the", "queen", "of", "hearts", "made", "some", "tarts", "all", "on", "a", "summer", "day")


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
def unigram() -> PreTrainedTokenizerFast:
    """An XLM-R-like tokenizer: pieces that begin with a blank, two separators between texts, no token types."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    words = [(f"\u2581{word}", -2.0) for word in WORDS]
    letters = [(letter, -5.0) for letter in ("\u2581", *string.ascii_letters, *string.digits, *string.punctuation)]
    tokenizer = Tokenizer(models.Unigram([*special, *words, *letters], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


@pytest.fixture
def bert_vocabulary() -> Vocabulary:
    return Vocabulary(size=512, pad=0, start=2, separator=3, segments=2)


@pytest.fixture
def xlmr_vocabulary() -> Vocabulary:
    return Vocabulary(size=512, pad=1, start=0, separator=2, segments=1)


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


MakeSnapshot = Callable[..., Snapshot]
FINGERPRINT = {"device": "cpu", "cpu": "Xeon", "torch": "2.13.0", "peft": "0.21.2", "python": "3.11.7"}
PROFILE = Profile({"aten::mm": 24, "aten::clone": 2}, "ab12", {"lora_A": 512, "classifier": 1538})
COUNTERS = {"flops": 1000, "operator_calls": 26, "bytecodes": 5000}


def _session(seed: int, cases: int, launches: int, spread: float) -> list[tuple[float, ...]]:
    draw = np.random.default_rng(seed).normal(0.2, spread, (cases, launches))
    return [tuple(row) for row in (draw - draw.mean(-1, keepdims=True) + 0.2).tolist()]


@pytest.fixture
def make_baseline() -> MakeSnapshot:
    """Return a maker of baselines: cases `a`, `b`, ... with 20 launches in four sessions, each with a mean of 0.2."""

    def make(cases: int = 8, spread: float = 0.01, **changes: object) -> Snapshot:
        parts = [_session(seed, cases, 5, spread) for seed in range(4)]
        found = {
            chr(ord("a") + i): Case({str(s): part[i] for s, part in enumerate(parts)}, 40, 0.0124, COUNTERS, PROFILE)
            for i in range(cases)
        }
        values = {"fingerprint": FINGERPRINT, "settings": {"model": "tiny"}, **changes}
        sessions = {str(s): Session(f"2026-01-0{s + 1} elm") for s in range(4)}
        return Snapshot(**({"cases": found, "sessions": sessions} | values))  # type: ignore[arg-type] # of a test's making

    return make


@pytest.fixture
def make_run() -> MakeSnapshot:
    """Return a maker of runs of the same cases, of which `shifts` (log units, by id) moved."""

    def make(
        shifts: dict[str, float] | None = None,
        cases: int = 8,
        launches: int = 10,
        spread: float = 0.01,
        **changes: object,
    ) -> Snapshot:
        moved = shifts or {}
        rows = _session(9, cases, launches, spread)
        names = [chr(ord("a") + i) for i in range(cases)]
        found = {
            name: Case({"new": tuple(x + moved.get(name, 0.0) for x in row)}, 40, 0.0131, COUNTERS, PROFILE)
            for name, row in zip(names, rows, strict=True)
        }
        values = {"fingerprint": FINGERPRINT, "settings": {"model": "tiny"}, **changes}
        return Snapshot(**({"cases": found, "sessions": {"new": Session("new")}} | values))  # type: ignore[arg-type] # see above

    return make
