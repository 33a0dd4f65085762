from __future__ import annotations

import string
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tools.backbones import WORDS

from peftbench.gate.snapshot import CaseSnapshot, Profile, Session, Snapshot
from peftbench.tasks.base import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


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
            chr(ord("a") + i): CaseSnapshot(
                {str(s): part[i] for s, part in enumerate(parts)}, 40, 0.0124, COUNTERS, PROFILE
            )
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
            name: CaseSnapshot({"new": tuple(x + moved.get(name, 0.0) for x in row)}, 40, 0.0131, COUNTERS, PROFILE)
            for name, row in zip(names, rows, strict=True)
        }
        values = {"fingerprint": FINGERPRINT, "settings": {"model": "tiny"}, **changes}
        return Snapshot(**({"cases": found, "sessions": {"new": Session("new")}} | values))  # type: ignore[arg-type] # see above

    return make
