"""What a round of prefill, of decode and of generate does. All rows of a batch are equally long: nothing is padded."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from peftbench.methods.peft.wrapping import decoder_of, virtual_tokens
from peftbench.workloads.base import Workload
from peftbench.workloads.generation.base import Generation, Round
from peftbench.workloads.generation.inputs import arguments_of_generate, next_tokens, rows_of

if TYPE_CHECKING:
    import torch

    from peftbench.workloads.backend import Group
    from peftbench.workloads.subject import Subject

TRIED: Final = 2
"""Tokens of the prompt and of the answer with which `generate` is tried before its rounds."""


@dataclass(frozen=True, kw_only=True)
class Prefill(Generation):
    """A pass over the prompts with an empty cache, and the choice of the first new token of each row."""

    prompt: int = 0
    """Tokens of each prompt."""
    varied: ClassVar[tuple[str, ...]] = ("prompt",)

    @property
    def needed(self) -> int:
        """Positions that a row needs: those of the prompt."""
        return self.prompt

    def tokens(self, group: Group) -> float:
        """Return the tokens of all prompts of a round."""
        return group.batch_size * self.prompt

    def round(self, subject: Subject, model: torch.nn.Module) -> Round:
        """Return the pass. The cache has room for the prompt, and is emptied at the begin of each round."""
        from peftbench.workloads.generation.rewinding_cache import RewindingCache, filled_cache

        decoder: Any = decoder_of(model)
        capacity = virtual_tokens(model) + self.prompt
        prompts = [rows_of(batch, self.prompt) for batch in subject.batches]
        static, _ = filled_cache(model, prompts[0][:, :1], capacity, name=subject.method.name)
        cache = RewindingCache.of(static, start=0, adds=capacity)
        last = {"logits_to_keep": 1} if decoder._supports_logits_to_keep() else {}  # noqa: SLF001 - as `generate` asks
        forward = subject.callable(model)

        def take(number: int) -> torch.Tensor:
            cache.rewind()
            prompt = prompts[number % len(prompts)]
            output = forward(input_ids=prompt, past_key_values=cache.cache, use_cache=True, **last)
            return next_tokens(output)

        return Round(take, cache.size_bytes)


@dataclass(frozen=True, kw_only=True)
class Decode(Generation):
    """A pass over one token of each row with a cache of a stated length, and the choice of the next token."""

    cache: int = 0
    """Tokens in the cache before the round, those of the method not counted."""
    varied: ClassVar[tuple[str, ...]] = ("cache",)

    @property
    def needed(self) -> int:
        """Positions that a row needs: those of the cache, and that of the token."""
        return self.cache + 1

    def tokens(self, group: Group) -> float:
        """Return the number of rows: each round computes one token of each."""
        return group.batch_size

    def round(self, subject: Subject, model: torch.nn.Module) -> Round:
        """Return the pass. The token is taken out of the cache again at the begin of each round."""
        from peftbench.workloads.generation.rewinding_cache import RewindingCache, filled_cache

        own = virtual_tokens(model)
        row = rows_of(subject.batches[0], self.cache + 1)
        static, _ = filled_cache(model, row[:, :-1], own + self.cache + 1, name=subject.method.name)
        cache = RewindingCache.of(static, start=own + self.cache, adds=1)
        token = row[:, -1:].contiguous()
        forward = subject.callable(decoder_of(model))

        def take(number: int) -> torch.Tensor:
            del number
            cache.rewind()
            return next_tokens(forward(input_ids=token, past_key_values=cache.cache, use_cache=True))

        return Round(take, cache.size_bytes)


@dataclass(frozen=True, kw_only=True)
class Generate(Generation):
    """A call of transformers' `generate` with a static cache, greedily and without an end before the last token."""

    prompt: int = 0
    """Tokens of each prompt."""
    new: int = 0
    """Tokens that are added to each prompt."""
    varied: ClassVar[tuple[str, ...]] = ("prompt", "new")

    @property
    def needed(self) -> int:
        """Positions that a row needs: those of prompt and answer."""
        return self.prompt + self.new

    def without_gradients(self) -> AbstractContextManager[object]:
        """Return the context in which `generate` itself runs a model. Inference mode would make it faster."""
        import torch

        return torch.no_grad()

    def tokens(self, group: Group) -> float:
        """Return the new tokens of a round."""
        return group.batch_size * self.new

    def round(self, subject: Subject, model: torch.nn.Module) -> Round:
        """Return the call. `generate` makes its cache in each call."""
        from peftbench.workloads.generation.rewinding_cache import filled_cache, size_bytes

        called: Any = model
        prompts = [rows_of(batch, self.prompt) for batch in subject.batches]
        masks = [prompt.new_ones(prompt.shape) for prompt in prompts]
        capacity = virtual_tokens(model) + self.needed - 1  # the last token is not put into the cache
        arguments = arguments_of_generate(model, capacity, compiled=subject.execution.compiles)
        tried = {
            **arguments,
            "max_new_tokens": TRIED,
            "disable_compile": True,
        }  # the first round compiles, and is timed
        called.generate(input_ids=prompts[0][:, :TRIED], attention_mask=masks[0][:, :TRIED], **tried)
        cache, _ = filled_cache(model, prompts[0][:, :1], capacity, name=subject.method.name)

        def take(number: int) -> object:
            place = number % len(prompts)
            return called.generate(
                input_ids=prompts[place], attention_mask=masks[place], max_new_tokens=self.new, **arguments
            )

        return Round(take, size_bytes(cache), keeps_cache=False)


WORKLOADS: tuple[Workload, ...] = (
    Prefill(name="prefill", summary="prompts are read into an empty cache: the time to the first new token"),
    Decode(name="decode", summary="one token with a cache of a stated length: the time between two tokens"),
    Generate(name="generate", summary="N new tokens by transformers' own generate"),
)
