"""The layers that a tuner adapts: found in the model's structure, with the dimensions a configuration must fit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, cast

from peftbench.errors import UnsupportedError, UserError, shown
from peftbench.methods.base import head_names, is_head

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class _Attention(NamedTuple):
    query: str
    key: str
    value: str


_ATTENTION: Final = (
    _Attention("query", "key", "value"),  # BERT, RoBERTa, XLM-R, ELECTRA
    _Attention("query_proj", "key_proj", "value_proj"),  # DeBERTa v2 and v3
    _Attention("q_lin", "k_lin", "v_lin"),  # DistilBERT
    _Attention("q_proj", "k_proj", "v_proj"),  # most decoders
    _Attention("q", "k", "v"),  # T5
)
_FEED_FORWARD_OUTPUT: Final = ("output.dense", "ffn.lin2", "down_proj", "fc2")
"""The layer that leads out of the feed-forward block; in BERT the name fits the attention's output as well."""

ALL_LINEAR: Final = "all-linear"


@dataclass(frozen=True, slots=True)
class Layers:
    """What a configuration must fit: the number of adapted layers and the dimensions of their matrices."""

    count: int
    smallest: int
    """The smallest dimension (in or out) of all; 0 where no adapted layer is linear."""
    common: int
    """The greatest common divisor of all dimensions."""

    @classmethod
    def of(cls, model: PreTrainedModel, target_modules: str | Iterable[str]) -> Self:
        """Collect the modules of the backbone that PEFT would adapt: by suffix, pattern or `all-linear`.

        Raises:
            UserError: nothing matches, or the pattern is not a regular expression; names what exists.
        """
        matched = [module for name, module in _backbone(model) if _matches(name, module, target_modules)]
        if not matched:
            shown = target_modules if isinstance(target_modules, str) else "+".join(target_modules)
            raise UserError(f"target_modules={shown} matches nothing in {_known_names(model)}")
        dimensions = [size for module in matched if _is_linear(module) for size in cast("Any", module).weight.shape]
        return cls(len(matched), min(dimensions, default=0), math.gcd(*dimensions))

    def rank(self, limit: int, *, share: int = 2) -> int:
        """Return the tuner's usual rank, or a `share`-th of the smallest dimension where that is less."""
        return max(1, min(limit, self.smallest // share))

    def divisor(self, limit: int) -> int:
        """Return the largest number up to `limit` that divides every dimension."""
        return max(self.divisors(limit))

    def divisors(self, limit: int) -> list[int]:
        """Return the numbers up to `limit` that divide every dimension, rising."""
        return [number for number in range(1, limit + 1) if self.common % number == 0]


NO_LAYERS: Final = Layers(count=0, smallest=0, common=0)


def query_and_value(model: PreTrainedModel) -> Mapping[str, Any]:
    """Adapt the query and value projections of every attention, as LoRA's paper and PEFT do."""
    names = _attention(model)
    return {"target_modules": [names.query, names.value] if names else _known_to_peft(model, "LORA")}


def value_only(model: PreTrainedModel) -> Mapping[str, Any]:
    """Adapt the value projections."""
    names = _attention(model)
    return {"target_modules": [names.value] if names else _known_to_peft(model, "BEFT")}


def keys_values_and_feed_forward(model: PreTrainedModel) -> Mapping[str, Any]:
    """Scale keys, values and the inside of the feed-forward block, as PEFT's (IA)^3 does: in BERT-like blocks more.

    There the name of the feed-forward's output layer fits the attention's as well, whose input is then scaled, too.
    """
    names = _attention(model)
    linear = [name for name, module in _backbone(model) if _is_linear(module)]
    output = next((end for end in _FEED_FORWARD_OUTPUT if any(name.endswith(f".{end}") for name in linear)), None)
    if names is None or output is None:
        return {"target_modules": _known_to_peft(model, "IA3")}  # PEFT knows their feed-forward modules as well
    return {"target_modules": [names.key, names.value, output], "feedforward_modules": [output]}


def norms(model: PreTrainedModel) -> Mapping[str, Any]:
    """Train every normalisation layer."""
    found = {name.rpartition(".")[2] for name, module in _backbone(model) if type(module).__name__.endswith("Norm")}
    if not found:
        raise UnsupportedError(f"{model.config.model_type} has no normalisation layers")
    return {"target_modules": sorted(found)}


def all_linear(model: PreTrainedModel) -> Mapping[str, Any]:
    """Adapt every linear layer of the backbone."""
    del model
    return {"target_modules": ALL_LINEAR}


def no_layers(model: PreTrainedModel) -> Mapping[str, Any]:
    """Adapt no layer: the tuner lengthens the input."""
    del model
    return {}


def key_value_prefix(model: PreTrainedModel) -> Mapping[str, Any]:
    """Adapt no layer, but make sure that the backbone takes keys and values from outside."""
    import inspect

    backbone = getattr(model, model.base_model_prefix)
    if "past_key_values" not in inspect.signature(backbone.forward).parameters:
        raise UnsupportedError(f"{model.config.model_type} takes no past_key_values, in which PEFT passes a prefix")
    return {}


def _backbone(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Module]]:
    heads = head_names(model)
    return ((name, module) for name, module in model.named_modules() if name and not is_head(name, heads))


def _is_linear(module: torch.nn.Module) -> bool:
    import torch
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, torch.nn.Linear | Conv1D)


def _matches(name: str, module: torch.nn.Module, target_modules: str | Iterable[str]) -> bool:
    if target_modules == ALL_LINEAR:
        return _is_linear(module)
    if isinstance(target_modules, str):
        try:
            return re.fullmatch(target_modules, name) is not None
        except (re.error, RecursionError, OverflowError) as error:  # the last two: brackets or a number beyond bounds
            raise UserError(f"target_modules={shown(target_modules)} is no regular expression: {error}") from error
    return any(name == target or name.endswith(f".{target}") for target in target_modules)


def _attention(model: PreTrainedModel) -> _Attention | None:
    present = {name.rpartition(".")[2] for name, module in _backbone(model) if _is_linear(module)}
    return next((names for names in _ATTENTION if present.issuperset(names)), None)


def _known_to_peft(model: PreTrainedModel, tuner: str) -> list[str] | str:
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.utils.peft_types import PeftType

    known = PEFT_TYPE_TO_TUNER_MAPPING[PeftType[tuner]].target_module_mapping.get(model.config.model_type)
    if known is None:
        raise UnsupportedError(f"cannot tell the attention's layers; say target_modules=..., of {_known_names(model)}")
    return known if isinstance(known, str) else list(known)


def _known_names(model: PreTrainedModel) -> str:
    names = sorted({name.rpartition(".")[2] for name, module in _backbone(model) if _is_linear(module)})
    return f"{model.config.model_type}, whose linear layers are called {', '.join(names)}"
