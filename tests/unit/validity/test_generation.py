"""The proof of generation against a method that works, and against methods that are broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from peftbench.config.settings import Settings
from peftbench.errors import ValidityError
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.methods.basic import SelectiveMethod
from peftbench.methods.peft.lora import METHODS as LORA
from peftbench.methods.peft.method import PeftMethod
from peftbench.validity.generation import check_generation
from peftbench.workloads.backend import Backend, Group

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.methods.base import Application, Method


@pytest.fixture(scope="module")
def group() -> Group:
    catalogue = Catalogue.load()
    settings = Settings(model="tiny-llama", device="cpu", seq_len=16)
    return Backend.open(settings, catalogue, [catalogue.task("sft")]).group("sft", 2)


def test_lora_generates_with_a_cache_what_it_computes_without_one(group: Group) -> None:
    proof = check_generation(group.subject(parse_method("lora")))
    assert [fact.partition(" differ")[0] for fact in proof.facts] == [
        "with a cache the logits of 5 tokens",
        "with the adapter disabled the logits of 5 tokens",
        "generate chose the most likely token 4 times in each of 2 rows",
        "merged and with a cache the logits of 5 tokens",
    ]
    assert proof.notes == ()


def test_the_papers_prefix_does_not_see_places_that_no_token_has_filled(group: Group) -> None:
    facts = check_generation(group.subject(parse_method("prefix"))).facts
    assert any(fact.startswith("with a cache the logits of 5 tokens differ") for fact in facts)


@pytest.mark.parametrize(
    ("method", "note"),
    [
        ("prefix-peft", "generation with a static cache not checked: prefix-peft puts a cache of its own in the place"),
        ("prompt-tuning", "generate not checked: PEFT cannot generate with prompt-tuning on llama: KeyError"),
    ],
)
def test_what_cannot_be_checked_is_a_note(method: str, note: str, group: Group) -> None:
    (found,) = check_generation(group.subject(parse_method(method))).notes
    assert found.startswith(note)


class Averaging(nn.Module):
    """Adds to each token the mean of all tokens of the pass before it, so that a cache changes what it computes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        counts = torch.arange(1, states.shape[1] + 1, device=states.device)[:, None]
        found: torch.Tensor = self.inner(states + self.weight * states.cumsum(1) / counts)
        return found


@dataclass(frozen=True, kw_only=True)
class LooksBack(SelectiveMethod):
    """Replaces a layer by one that looks at the tokens of the pass."""

    def apply(self, model: PreTrainedModel, application: Application) -> nn.Module:
        block = model.base_model.layers[0]
        block.mlp = Averaging(block.mlp)
        return super().apply(model, application)


@dataclass(frozen=True, kw_only=True)
class LosesItself(PeftMethod):
    """Merges by taking the adapter off."""

    def merge(self, model: nn.Module) -> nn.Module:
        return self.remove(model)


@dataclass(frozen=True, kw_only=True)
class StaysActive(PeftMethod):
    """Does nothing to be disabled."""

    def disabled(self, model: nn.Module) -> AbstractContextManager[None]:
        del model
        return nullcontext()


@dataclass(frozen=True, kw_only=True)
class ChoosesBadly(PeftMethod):
    """Chooses another token than the most likely one."""

    def apply(self, model: PreTrainedModel, application: Application) -> nn.Module:
        applied: Any = super().apply(model, application)
        own: Callable[..., torch.Tensor] = applied.generate
        size = model.config.vocab_size
        applied.generate = lambda **given: torch.cat(
            (given["input_ids"], (own(**given)[:, given["input_ids"].shape[1] :] + 1) % size), dim=1
        )
        return applied  # type: ignore[no-any-return] # a model of PEFT


def _lora(kind: type[PeftMethod]) -> PeftMethod:
    sound = next(method for method in LORA if method.name == "lora")
    return kind(**{name: getattr(sound, name) for name in sound.__dataclass_fields__})


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (
            LooksBack(name="x", family="test", summary="", source="", picks=lambda name: "mlp.weight" in name),
            "with a cache the logits of 5 tokens differ by",
        ),
        (_lora(LosesItself), "merged and with a cache the logits of 5 tokens differ by"),
        (_lora(StaysActive), "with the adapter disabled the logits of 5 tokens differ by"),
        (_lora(ChoosesBadly), "generate chose a token that is not the most likely one of a pass without a cache"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_method_that_generates_something_else_is_invalid(method: Method, reason: str, group: Group) -> None:
    subject = replace(group.subject(parse_method("lora")), method=method)
    with pytest.raises(ValidityError, match=reason):
        check_generation(subject)
