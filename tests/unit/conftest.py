from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest

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
