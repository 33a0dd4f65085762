"""How well a language model completes: loss, accuracy of tokens, and greedy answers that are what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Self

from peftbench.models.presets import max_positions
from peftbench.tasks.encoding import RowError
from peftbench.tasks.padding import IGNORED, padded
from peftbench.tasks.scores import READINGS
from peftbench.workloads.step import without_labels

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from peftbench.tasks.base import Batch, Features
    from peftbench.tasks.exchange import Exchange

LOGITS: Final = 2**28
"""Logits of a batch at most: 1 GiB in float32. Those of a large vocabulary are what limits a batch."""
PROMPTS: Final = 32
"""Prompts that are answered at once."""
Collate = Callable[[Sequence["Features"]], "Batch"]


@dataclass(frozen=True, slots=True)
class Questions:
    """Prompts, the answers that are expected, and how an answer is read."""

    prompts: tuple[tuple[int, ...], ...]
    expected: tuple[str, ...]
    """What `reading` makes of each expected answer."""
    reading: str
    """One of `READINGS`."""
    tokenizer: PreTrainedTokenizerFast
    most_tokens: int
    """Most tokens of an answer."""

    @classmethod
    def of(
        cls,
        exchanges: Sequence[Exchange],
        tokenizer: PreTrainedTokenizerFast,
        reading: str,
        most_tokens: int | None,
        *,
        positions: int | None = None,
    ) -> Self:
        """Return the questions of rows.

        Args:
            exchanges: The rows as examples.
            tokenizer: The model's own.
            reading: How answers are read.
            most_tokens: None: as many as the longest expected answer has, and the one that ends it.
            positions: The longest sequence that the model takes, where it says one.

        Raises:
            RowError: a row has no answer that can be read so, or a prompt that leaves no room for one.
        """
        read, expected = READINGS[reading], []
        for number, one in enumerate(exchanges):
            if not one.prompt:
                raise RowError(
                    number, "has no prompt to be answered: exact_match needs prompt and completion, or messages"
                )
            if positions is not None and len(one.prompt) >= positions:  # of a chat: its last prompt
                told = f"its prompt has {len(one.prompt)} tokens, which leaves none for an answer"
                raise RowError(number, told, needs=len(one.prompt) + 1)
            if (answer := read(one.answer)) is None:
                raise RowError(number, f"its answer holds nothing that --peftbench-answers={reading} could compare")
            expected.append(answer)
        longest = max(sum(label != IGNORED for label in one.features["labels"]) for one in exchanges)
        return cls(
            tuple(one.prompt for one in exchanges), tuple(expected), reading, tokenizer, most_tokens or longest + 1
        )


def completion_scores(
    features: Sequence[Features],
    questions: Questions | None,
    model: Any,  # noqa: ANN401 - a model of transformers or PEFT
    collate: Collate,
) -> dict[str, float]:
    """Return `token_accuracy`, `completion_loss` (nat a token), `perplexity`, and with questions `exact_match`.

    All tokens of all completions count alike. A loss that is not finite is left out.

    Args:
        features: Examples with labels.
        questions: What is answered greedily; None: nothing.
        model: In evaluation mode, without gradients.
        collate: Makes a batch of examples, on the model's device.
    """
    import torch

    right = loss = count = 0.0
    width = model.config.get_text_config().vocab_size
    for chosen in batches([len(feature["input_ids"]) for feature in features], LOGITS // width):
        batch = collate([features[number] for number in chosen])
        labels = batch["labels"][:, 1:]
        # What a method puts before the sequence has logits as well.
        logits = model(**without_labels(batch)).logits[:, -batch["labels"].shape[1] : -1].float()
        learned = labels != IGNORED
        right += float((logits.argmax(-1) == labels)[learned].sum())
        loss += float(torch.nn.functional.cross_entropy(logits[learned], labels[learned], reduction="sum"))
        count += float(learned.sum())
    scores = {"token_accuracy": right / count}
    if math.isfinite(loss):
        mean = loss / count
        scores |= {"completion_loss": mean, "perplexity": math.exp(min(mean, 700.0))}
    if questions is not None:
        answers = answered(questions, model)
        pairs = zip(map(READINGS[questions.reading], answers), questions.expected, strict=True)
        scores["exact_match"] = fmean(given == expected for given, expected in pairs)
    return scores


def answered(questions: Questions, model: Any) -> list[str]:  # noqa: ANN401 - a model of transformers or PEFT
    """Return the greedy answer to each prompt. Prompts are padded on the left."""
    import torch
    from transformers import GenerationConfig

    tokenizer, device = questions.tokenizer, next(model.parameters()).device
    ends = _ends(model, tokenizer)
    pad = next((i for i in (tokenizer.pad_token_id, *ends) if i is not None), 0)
    positions = max_positions(model.config.get_text_config().to_dict())
    answers: dict[int, str] = {}
    prompts = questions.prompts
    for chosen in batches([*map(len, prompts)], PROMPTS * max(map(len, prompts)), most=PROMPTS):
        longest = max(len(prompts[number]) for number in chosen)
        room = questions.most_tokens if positions is None else min(questions.most_tokens, positions - longest)
        if room < 1:
            answers |= dict.fromkeys(chosen, "")
            continue
        # Reversed, what is padded on the right is padded on the left.
        ids = padded([prompts[number][::-1] for number in chosen], pad, longest).flip(1)
        mask = padded([[1] * len(prompts[number]) for number in chosen], 0, longest).flip(1)
        greedy = GenerationConfig(
            do_sample=False, max_new_tokens=room, use_cache=True, pad_token_id=pad, eos_token_id=ends or None
        )
        with torch.inference_mode():
            found = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=greedy)
        texts = tokenizer.batch_decode(found[:, longest:], skip_special_tokens=True)
        answers |= dict(zip(chosen, texts, strict=True))
    return [answers[number] for number in range(len(prompts))]


def batches(lengths: Sequence[int], tokens: int, *, most: int = 64) -> Iterator[list[int]]:
    """Yield the numbers of examples that share a batch: of similar length, up to so many tokens with padding."""
    chosen: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if chosen and (len(chosen) == most or (len(chosen) + 1) * lengths[number] > tokens):
            yield chosen
            chosen = []
        chosen.append(number)
    if chosen:
        yield chosen


def _ends(model: Any, tokenizer: PreTrainedTokenizerFast) -> list[int]:  # noqa: ANN401 - as above
    """Return the tokens that end a text: the tokenizer's, and those that the model's own settings name."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    every = [tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return list(dict.fromkeys(token for token in every if token is not None))
