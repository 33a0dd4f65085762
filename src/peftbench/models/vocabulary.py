"""What a model reads: its tokenizer, its vocabulary, and the ids that stand for padding, start and end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from peftbench.errors import UserError
from peftbench.models.reporting import reported
from peftbench.tasks.base import Vocabulary

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

    from peftbench.models.presets import ModelSource

_NO_ADAPTER: Final = "no-adapter"
"""Where transformers is told to look for an adapter: it would load one that lies beside the model, unasked."""


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerFast:
    """Return the fast tokenizer that belongs to a model.

    Raises:
        UserError: a preset (it has none), or the model comes without a fast tokenizer, or one that cannot be converted.
    """
    if source.preset:
        raise UserError(
            f"preset {source.name!r} has no tokenizer: use a model folder or hub id with real data, or synthetic data"
        )
    from transformers import AutoTokenizer

    try:
        with reported("tokenizer of model", source):
            tokenizer = AutoTokenizer.from_pretrained(source.location, use_fast=True, trust_remote_code=False)
    except UserError as error:
        # Files that cannot be had and a library that is not installed are told as they are; the rest, without
        # tokenizer.json, is a conversion that failed, of which transformers' last attempt (tiktoken) says nothing.
        if isinstance(error.__cause__, OSError | ImportError) or _has_tokenizer_json(source):
            raise
        raise UserError(
            f"tokenizer of model {source.name!r} cannot be loaded: it has no tokenizer.json and cannot be converted; "
            "install sentencepiece and protobuf, load it once, and save_pretrained it into the model's folder"
        ) from error
    if not tokenizer.is_fast:
        raise UserError(f"model {source.name!r} has no fast tokenizer (tokenizer.json), which offsets and words need")
    # Without files transformers makes up a tokenizer that knows special tokens only: all words would be unknown.
    if not tokenizer.get_vocab().keys() - {*tokenizer.all_special_tokens}:
        raise UserError(f"model {source.name!r} comes without its tokenizer: save tokenizer.json beside config.json")
    return tokenizer


def _has_tokenizer_json(source: ModelSource) -> bool:
    """Tell whether the file is in a model's folder, or has come from the hub."""
    from transformers.utils import cached_file

    try:
        cached_file(source.location, "tokenizer.json", local_files_only=True)
    except OSError:
        return False
    return True


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """Return the part of a configuration that describes how the model reads text: of most, the whole.

    Raises:
        UserError: the model reads no text: it has no vocabulary.
    """
    text: PretrainedConfig = config.get_text_config()
    if vocabulary_size(text) is None:
        raise UserError(f"model type {config.model_type!r} reads no text: its configuration has no vocab_size")
    return text


def vocabulary_size(text: PretrainedConfig) -> int | None:
    """Return how many token ids a text model knows, or None; without a vocabulary of its own, characters are ids."""
    size = getattr(text, "vocab_size", None)
    if not isinstance(size, int) and getattr(text, "num_hash_buckets", None):
        return sys.maxunicode + 1  # Canine hashes each character of Unicode
    return size if isinstance(size, int) else None


def vocabulary(config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast | None = None) -> Vocabulary:
    """Return the model's token ids: the tokenizer's where there is one, else those that the configuration names.

    An id that is none of the model's is passed over: a tokenizer can have got a [PAD] that the embeddings have not, a
    configuration can say -1. What pads is not looked at, so any id serves. A decoder has no padding of its own as a
    rule: the id that ends a text is taken, and id 0 only where none is named.

    Raises:
        UserError: the model reads no text.
    """
    text = text_config(config)
    size = vocabulary_size(text) or 1

    def token_id(*names: str, otherwise: int) -> int:
        known = (getattr(holder, name, None) for holder in (tokenizer, config, text) for name in names)
        # A configuration can name a list of ids.
        return next((i for i in known if isinstance(i, int) and 0 <= i < size), min(otherwise, size - 1))

    return Vocabulary(
        size=size,
        pad=token_id("pad_token_id", otherwise=token_id("eos_token_id", otherwise=0)),
        start=token_id("cls_token_id", "bos_token_id", otherwise=1),
        separator=token_id("sep_token_id", "eos_token_id", otherwise=2),
        segments=getattr(text, "type_vocab_size", None) or 1,
    )
