from __future__ import annotations

import json
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from peftbench.matrix.cases import parse_method
from peftbench.records.ids import Case

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@pytest.fixture
def tiny_decoder(tmp_path: Path, unadorned: PreTrainedTokenizerFast) -> Path:
    """A folder with a Llama of 2 layers of 32 and its tokenizer, which puts nothing around a text."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(unadorned),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(tmp_path)
    unadorned.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny_completions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows of task sft, whose completions follow from the last word of the prompt."""
    folder = tmp_path_factory.mktemp("completions")
    (folder / "sft").mkdir()
    answers = {"queen": " some tarts", "summer": " day", "hearts": " all on a day"}
    for split, count in (("train", 48), ("validation", 12)):
        rows = [
            {"prompt": " ".join(["the"] * (number % 4) + [word]), "completion": answers[word]}
            for number, word in zip(range(count), cycle(answers), strict=False)
        ]
        (folder / "sft" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def training_case() -> Callable[..., Case]:
    def case(method: str = "full", task: str = "nli", *, seed: int = 0, lr: float = 1e-2) -> Case:
        return Case(parse_method(method), task, 8).with_variant(seed=seed, lr=lr)

    return case
