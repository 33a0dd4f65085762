"""What a configuration of PEFT takes from the task's batches: tokens of a prompt, or the tokens that switch it on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import UnsupportedError, UserError
from peftbench.tasks.base import Head

if TYPE_CHECKING:
    from peftbench.methods.base import Application
    from peftbench.tasks.base import Batch

CONTEXT_TOKENS: Final = 20
"""Tokens of CPT's context at most, as many as other prompts of PEFT have here."""
LONGEST_INVOCATION: Final = 8
"""Tokens of aLoRA's invocation at most."""
_UNLABELLED: Final = -100
_INPUT, _LABEL = 2, 4
"""Kinds of tokens in CPT's context. PEFT trains what it adds to inputs, and leaves labels as they are."""


def read_nothing(application: Application) -> Mapping[str, Any]:
    """Return no field: the configuration does not depend on data."""
    del application
    return {}


def example_as_context(application: Application) -> Mapping[str, Any]:
    """Return CPT's context: the end of the first example's prompt and the beginning of its completion.

    Raises:
        UserError: there are no batches, and no tokens are given.
    """
    tokens = application.overrides.get("cpt_token_ids")
    if tokens is not None:
        return {"cpt_tokens_type_mask": [_INPUT] * len(str(tokens).split("+"))}
    prompt, completion = next(_examples(_batches_of(application, "cpt")))
    before, after = prompt[-(CONTEXT_TOKENS // 2) :], completion[: CONTEXT_TOKENS // 2]
    kinds = [_INPUT] * len(before) + [_LABEL] * len(after)
    return {"cpt_token_ids": [*before, *after], "cpt_tokens_type_mask": kinds, "cpt_mask": [1] * len(kinds)}


def invocation(application: Application) -> Mapping[str, Any]:
    """Return aLoRA's invocation: the tokens with which all prompts end; else those with which all examples begin.

    A chat template ends each prompt with the same tokens. Synthetic prompts only begin alike.

    Raises:
        UnsupportedError: the examples have no tokens in common at these places.
        UserError: there are no batches, and no tokens are given.
    """
    if "alora_invocation_tokens" in application.overrides:
        return {}
    examples = list(_examples(_batches_of(application, "alora")))
    found = _common([prompt[::-1] for prompt, _ in examples])[::-1] or _common([prompt for prompt, _ in examples])
    if not found:
        raise UnsupportedError(
            "aLoRA works from its invocation on, and the prompts have no tokens in common: "
            "give alora(alora_invocation_tokens=<id>+<id>+...), tokens that are in every prompt"
        )
    return {"alora_invocation_tokens": found}


def no_invocation_elsewhere(application: Application) -> Mapping[str, Any]:
    """Return no field; raises UnsupportedError for an invocation in a task where PEFT would never find it."""
    if "alora_invocation_tokens" in application.overrides and application.task.head is not Head.CAUSAL_LM:
        raise UnsupportedError("an invocation (aLoRA) is for causal language models only")
    return {}


def _common(sequences: Sequence[Sequence[int]]) -> list[int]:
    """Return the tokens with which all sequences begin, at most `LONGEST_INVOCATION` of them."""
    columns = zip(*(sequence[:LONGEST_INVOCATION] for sequence in sequences), strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


def _batches_of(application: Application, method: str) -> Sequence[Batch]:
    if not application.batches:
        raise UserError(f"{method} reads its configuration off the data: give batches=..., a few batches of the task")
    return application.batches


def _examples(batches: Sequence[Batch]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the token ids of each example's prompt, and those of its completion; padding is neither."""
    for batch in batches:
        for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
            first = next((place for place, label in enumerate(labels) if label != _UNLABELLED), len(labels))
            last = max((place for place, label in enumerate(labels) if label != _UNLABELLED), default=first - 1)
            yield ids[:first], ids[first : last + 1]
