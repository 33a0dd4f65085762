"""Tiny encoders with each of the four heads, and a batch and a task for each."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig

from peftbench.methods.base import Application
from peftbench.tasks import choice, classification, span, tokens
from peftbench.tasks.base import Batch, Head, Task

VOCABULARY = 130
CLASSES = 3
ROWS, CHOICES, TOKENS = 3, 2, 8
TASKS: dict[Head, Task] = {
    task.head: task for task in (*classification.TASKS, *tokens.TASKS, *span.TASKS, *choice.TASKS)
}


@pytest.fixture(scope="session")
def task() -> Callable[[Head], Task]:
    return TASKS.__getitem__


@pytest.fixture(scope="session")
def application(batch: Callable[..., Batch]) -> Callable[..., Application]:
    def make(head: Head = Head.SEQUENCE_CLASSIFICATION, *, seed: int = 0, **overrides: Any) -> Application:  # noqa: ANN401
        return Application(
            task=TASKS[head], overrides=overrides, seed=seed, total_steps=20, batches=(batch(head), batch(head))
        )

    return make


@pytest.fixture(scope="session")
def encoder() -> Callable[..., Any]:
    """Make equal tiny encoders in evaluation mode; their biases are not zero, as those of trained models are not."""

    def make(head: Head = Head.SEQUENCE_CLASSIFICATION, model_type: str = "bert", **changes: Any) -> Any:  # noqa: ANN401
        shape = {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
            "type_vocab_size": 1 if model_type == "xlm-roberta" else 2,
            "initializer_range": 0.2,
            "num_labels": 2 if head is Head.QUESTION_ANSWERING else CLASSES,
            **changes,
        }
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = getattr(transformers, head).from_config(AutoConfig.for_model(model_type, **shape))
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    torch.nn.init.normal_(parameter, std=0.1)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def batch() -> Callable[..., Batch]:
    def make(head: Head, *, segments: bool = False) -> Batch:
        draw = torch.Generator().manual_seed(0)
        shape = (ROWS, CHOICES, TOKENS) if head is Head.MULTIPLE_CHOICE else (ROWS, TOKENS)
        mask = torch.ones(shape, dtype=torch.long)
        mask[-1, ..., TOKENS // 2 :] = 0
        made = {"input_ids": torch.randint(4, VOCABULARY, shape, generator=draw), "attention_mask": mask}
        if segments:
            made["token_type_ids"] = (torch.arange(TOKENS) % 2).expand(shape)
        labels = torch.arange(ROWS)
        if head is Head.TOKEN_CLASSIFICATION:
            labels = torch.randint(CLASSES, shape, generator=draw)
        if head is Head.QUESTION_ANSWERING:
            return {**made, "start_positions": labels, "end_positions": labels + 1}
        return {**made, "labels": labels % CHOICES if head is Head.MULTIPLE_CHOICE else labels}

    return make


@pytest.fixture(scope="session")
def logits(batch: Callable[..., Batch]) -> Callable[[Any], torch.Tensor]:
    """Return what a sequence classifier computes in evaluation mode."""
    inputs = batch(Head.SEQUENCE_CLASSIFICATION)

    @torch.no_grad()
    def compute(model: Any) -> torch.Tensor:  # noqa: ANN401
        result: torch.Tensor = model.eval()(**inputs).logits
        return result

    return compute
