"""The proof that a method generates with a cache what it computes without one, and that its states agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from peftbench.devices.seeding import seed_generators
from peftbench.errors import UnsupportedError, ValidityError
from peftbench.methods.peft.wrapping import decoder_of, virtual_tokens
from peftbench.validity.check import ROWS, SIGNAL, cuda_devices
from peftbench.validity.outputs import difference, tolerance
from peftbench.validity.promises import named_tensors
from peftbench.validity.short_training import perturb
from peftbench.workloads.generation.inputs import arguments_of_generate, rows_of
from peftbench.workloads.generation.rewinding_cache import RewindingCache, filled_cache

if TYPE_CHECKING:
    from peftbench.workloads.subject import Subject

_PROMPT: Final = 8
"""Tokens that are read at once."""
_NEW: Final = 4
"""Tokens that follow, one by one."""


@dataclass(frozen=True, slots=True)
class GenerationValidity:
    """The result of a proof that succeeded."""

    facts: tuple[str, ...]
    """Statements that were checked and hold, a line each."""
    notes: tuple[str, ...]
    """Statements that could not be checked, a line each."""


def check_generation(subject: Subject) -> GenerationValidity:
    """Check how a method generates, on a fresh model with noise in the method's own weights.

    It must hold that:

    * the logits of a prompt and of the tokens after it, one by one with a static cache, are those of one pass over all
      tokens without a cache;
    * a token that is computed again, after the cache was put back, has the same logits, bit by bit;
    * with the adapter disabled they are those of the plain model;
    * each token that `generate` chooses is the most likely one of a pass without a cache;
    * a merged model computes the same, with a cache too.

    Differences up to the tolerance of `outputs.tolerance` count as rounding. Torch's random generators are put back.

    Raises:
        ValidityError: one of these does not hold; says which, in one line.
        UnsupportedError: the method cannot be applied to this model.
    """
    with torch.random.fork_rng(cuda_devices(subject.batches)), torch.no_grad():
        seed_generators(subject.application.seed)
        proof = _Proof.begin(subject)
        with (
            subject.method.faults(proof.model, subject.application, "run"),
            subject.precision.forward_context(proof.tokens.device),
        ):
            proof.compare_all()
    return GenerationValidity(facts=tuple(proof.facts), notes=tuple(proof.notes))


@dataclass(frozen=True, slots=True)
class _Proof:
    """The steps of the proof. Merging is the last one: it spoils the model."""

    subject: Subject
    tokens: torch.Tensor
    """[rows, _PROMPT + _NEW]."""
    model: torch.nn.Module
    plain: torch.Tensor
    """Logits of the plain model, as `_without_cache` returns them."""
    facts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, subject: Subject) -> _Proof:
        tokens = rows_of(subject.batches[0], _PROMPT + _NEW)[:ROWS]
        fresh = subject.fresh_model().eval()
        with subject.precision.forward_context(tokens.device):
            plain = _without_cache(fresh, tokens)
        known = {id(tensor): tensor for tensor in named_tensors(fresh).values()}
        width = fresh.config.get_text_config().hidden_size
        model = subject.method.apply(fresh, subject.application).eval()
        own = [tensor for tensor in model.parameters() if tensor.requires_grad and id(tensor) not in known]
        for tensor in own:  # a factor that starts at zero would hide all others; single zeros may be pruned
            perturb([tensor], SIGNAL / math.sqrt(width), zeros=not bool(tensor.any()))
        return cls(subject=subject, tokens=tokens, model=model, plain=plain)

    def compare_all(self) -> None:
        active = _without_cache(self.model, self.tokens)
        try:
            self._compare("with a cache", active, self._with_cache(self.model))
            self._disabled()
        except UnsupportedError as error:
            self.notes.append(f"generation with a static cache not checked: {error}")
            return
        self._generate()
        self._merged(active)

    def _with_cache(self, model: torch.nn.Module) -> torch.Tensor:
        """Return the logits of the prompt's last token and of those after it, [rows, 1 + _NEW, vocabulary]."""
        name = self.subject.method.name
        own = virtual_tokens(model)
        capacity = own + self.tokens.shape[1]
        static, output = filled_cache(model, self.tokens[:, :_PROMPT], capacity, name=name)
        decoder: Any = decoder_of(model)
        logits = [output.logits[:, -1:]]
        for place in range(_PROMPT, self.tokens.shape[1]):
            cache = RewindingCache.of(static, start=own + place, adds=1)
            token = self.tokens[:, place : place + 1]
            first, again = (self._step(decoder, token, cache) for _ in range(2))
            if not torch.equal(first, again):
                raise ValidityError("a token that is computed again after the cache was put back has other logits")
            logits.append(again)
        return torch.cat(logits, dim=1)

    @staticmethod
    def _step(decoder: Callable[..., Any], token: torch.Tensor, cache: RewindingCache) -> torch.Tensor:
        cache.rewind()
        logits: torch.Tensor = decoder(input_ids=token, past_key_values=cache.cache, use_cache=True).logits
        return logits

    def _compare(self, what: str, expected: torch.Tensor, found: torch.Tensor) -> None:
        apart, allowed = difference((expected,), (found,)), tolerance((expected,))
        if not apart <= allowed:
            raise ValidityError(
                f"{what} the logits of {_NEW + 1} tokens differ by {apart:.1e} of their scale from those of a pass "
                f"without a cache, {allowed:.0e} is allowed"
            )
        self.facts.append(f"{what} the logits of {_NEW + 1} tokens differ by {apart:.1e} of their scale")

    def _disabled(self) -> None:
        with ExitStack() as stack:
            try:
                stack.enter_context(self.subject.method.disabled(self.model))
            except UnsupportedError:
                return
            self._compare("with the adapter disabled", self.plain, self._with_cache(self.model))

    def _generate(self) -> None:
        prompt = self.tokens[:, :_PROMPT]
        called: Any = self.model
        capacity = virtual_tokens(self.model) + self.tokens.shape[1]
        arguments = arguments_of_generate(self.model, capacity, compiled=False)
        mask = prompt.new_ones(prompt.shape)
        try:
            with self.subject.method.faults(self.model, self.subject.application, "generate with"):
                answer = called.generate(input_ids=prompt, attention_mask=mask, max_new_tokens=_NEW, **arguments)
        except UnsupportedError as error:
            self.notes.append(f"generate not checked: {error}")
            return
        logits = _without_cache(self.model, answer)[:, :-1]
        chosen = logits.gather(-1, answer[:, _PROMPT:, None]).squeeze(-1)
        best = logits.max(dim=-1).values
        if bool((best - chosen > tolerance((logits,)) * logits.abs().max().clamp(min=1.0)).any()):
            raise ValidityError("generate chose a token that is not the most likely one of a pass without a cache")
        self.facts.append(f"generate chose the most likely token {_NEW} times in each of {len(answer)} rows")

    def _merged(self, active: torch.Tensor) -> None:
        if not self.subject.method.mergeable:
            return
        try:
            merged = self.subject.method.merge(self.model).eval()
        except UnsupportedError:
            return
        self._compare("merged and with a cache", active, self._with_cache(merged))


def _without_cache(model: Callable[..., Any], tokens: torch.Tensor) -> torch.Tensor:
    """Return the logits of one pass, of the prompt's last token and of those after it."""
    logits: torch.Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits[:, -_NEW - 1 :]
