"""The messages of a chat -> tokens, and which of them are the assistant's, by the tokenizer's chat template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Any, Final

from peftbench.tasks.fields import is_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ASSISTANT: Final = "assistant"
_MARKED: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""How a template marks what an assistant says, as transformers looks for it."""
_HINT: Final = "mark it with {% generation %} ... {% endgeneration %}, or give prompt and completion"

Message = Mapping[str, Any]


def problem(messages: object) -> str:
    """Return the reason why a value is no chat in which an assistant answers, or ''."""
    if not isinstance(messages, list) or not messages:
        return f"messages must be a list of objects with role and content, not {shortened(messages)}"
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or not all(is_text(message.get(name)) for name in ("role", "content")):
            return f"message {number} must have role and content, both text, not {shortened(message)}"
    roles = [message["role"] for message in messages]
    if ASSISTANT not in roles:
        return f"no message has the role {ASSISTANT!r}: there is nothing to learn"
    return f"the first message is the {ASSISTANT}'s: it must answer something" if roles[0] == ASSISTANT else ""


def last_answer(messages: Sequence[Message]) -> str:
    """Return what the assistant said last."""
    return next(str(message["content"]) for message in reversed(messages) if message["role"] == ASSISTANT)


def marked(messages: Sequence[Message], tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[bool]]:
    """Return the tokens of a chat, and for each whether the assistant says it.

    A template can mark that itself. For one that does not, each answer reaches from where the chat before it, with the
    prompt for an answer, ends to where the chat with it ends.

    Raises:
        ValueError: there is no template, it refuses the messages, or the answers cannot be told from the rest.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            "the tokenizer has no chat template, which messages need: save one with it, or give prompt and completion"
        )
    if _MARKED.search(tokenizer.get_chat_template()):
        encoding = _applied(tokenizer, messages, return_assistant_tokens_mask=True)
        ids, mask = [*encoding["input_ids"]], [bool(value) for value in encoding["assistant_masks"]]
    else:
        ids = [*_applied(tokenizer, messages)["input_ids"]]
        mask = _compared(messages, ids, tokenizer)
    if not any(mask[1:]):  # nothing predicts the first token
        raise ValueError(f"the chat template marks nothing of what the assistant says: {_HINT}")
    return ids, mask


def _compared(messages: Sequence[Message], ids: Sequence[int], tokenizer: PreTrainedTokenizerFast) -> list[bool]:
    mask = [False] * len(ids)
    for number, message in enumerate(messages):
        if message["role"] != ASSISTANT:
            continue
        asked = _applied(tokenizer, messages[:number], add_generation_prompt=True)["input_ids"]
        before = _applied(tokenizer, messages[:number])["input_ids"]
        answered = _applied(tokenizer, messages[: number + 1])["input_ids"]
        start, end = common(asked, ids), common(answered, ids)
        # One token less: the last one of what was said before can have grown together with the next.
        if start < len(before) - 1 or end <= start:
            raise ValueError(
                f"the chat template does not tell apart what the assistant says in message {number + 1}: {_HINT}"
            )
        mask[start:end] = [True] * (end - start)
    return mask


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common at their start."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))


def _applied(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], **options: bool) -> Any:  # noqa: ANN401
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template([*messages], tokenize=True, return_dict=True, **options)
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        problem = f"the chat template refuses the messages: {why}: mend it, or give prompt and completion"
        raise ValueError(problem) from error
