"""Several adapters of PEFT become one: `add_weighted_adapter` on their bodies, without heads.

PEFT refuses to combine adapters whose heads it saves, since two tasks have two heads. So a body and its head are taken
apart, the bodies are combined on a plain model, and each head is put back beside the result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from peftbench.config.choices import COMBINATIONS
from peftbench.devices.seeding import seeded
from peftbench.errors import UnsupportedError
from peftbench.methods.base import head_names, is_head, place_of_plain
from peftbench.methods.peft.library import faults_as, quiet
from peftbench.methods.peft.method import FIRST, PeftMethod

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

    from peftbench.methods.base import Application, Method

Weights = Mapping[str, "torch.Tensor"]
"""Tensors on the CPU, by name."""
Took = Callable[[Callable[[], None]], float]
"""Calls a function and returns its time in seconds."""

COMBINED: Final[Mapping[str, tuple[str, ...]]] = {"LORA": COMBINATIONS, "IA3": ("linear",)}
"""Tuner -> the combinations that PEFT has for its adapters. Other tuners have none."""
DENSE: Final = frozenset({"linear", "cat", "svd"})
"""Combinations that keep every weight, and take no density."""
RESULT: Final = "combined"
"""PEFT's name of the adapter that a combination makes."""


@dataclass(frozen=True, slots=True)
class AdapterParts:
    """What a training yields, taken apart."""

    body: Weights
    """The adapter, under PEFT's names."""
    head: Weights
    """The task's head, under the names of the plain model."""


@dataclass(frozen=True, slots=True)
class Combination:
    """How adapters are combined."""

    name: str
    """One of `choices.COMBINATIONS`."""
    weight: float
    """Factor of each adapter."""
    density: float = 0.5
    """Share of the weights that is kept, for combinations that drop some."""
    seed: int = 0
    """Of the weights that `dare` drops."""


@dataclass(frozen=True, slots=True)
class CombinedBody:
    """The one adapter that was made of several."""

    config: PeftConfig
    body: Weights


def why_not_combined(method: Method, combination: str) -> str:
    """Return why adapters of a method cannot be combined in this way, or ''."""
    if not isinstance(method, PeftMethod) or method.tuner not in COMBINED:
        return f"{method.name}: PEFT combines adapters of {' and '.join(COMBINED)} only"
    if method.why_alone:
        return method.why_alone
    known = COMBINED[method.tuner]
    return "" if combination in known else f"{method.name}: PEFT combines its adapters by {', '.join(known)} only"


def parts_of(model: torch.nn.Module, plain: PreTrainedModel) -> AdapterParts:
    """Return body and head of a trained model of PEFT, as copies on the CPU.

    Args:
        model: Trained, with one adapter.
        plain: A model as it was before the method was applied.
    """
    from peft import get_peft_model_state_dict

    heads, place = head_names(plain), place_of_plain(model)
    saved = get_peft_model_state_dict(model, adapter_name=FIRST, save_embedding_layers=False)
    weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in saved.items()}
    head = {name.removeprefix(place): weights.pop(name) for name in list(weights) if is_head(name, heads)}
    return AdapterParts(weights, head)


def combine(
    method: PeftMethod,
    plain: PreTrainedModel,
    application: Application,
    bodies: Sequence[Weights],
    how: Combination,
    *,
    took: Took,
) -> tuple[CombinedBody, float]:
    """Combine adapters by PEFT, and return the result and the seconds that this took.

    Args:
        method: The method that all were trained by.
        plain: A fresh model, which is changed.
        application: Of the method, on any of the tasks.
        bodies: The adapters without heads; at least one.
        how: How they are combined.
        took: Times the combination. Loading the adapters is not part of it.

    Raises:
        UnsupportedError: PEFT cannot do it; says why.
    """
    from peft import get_peft_model_state_dict

    if any(body.keys() != bodies[0].keys() for body in bodies):
        raise UnsupportedError(f"{method.name}: the adapters change different layers, so they cannot be combined")
    config = _bare(method, plain, application)
    names = [f"own{number}" for number in range(len(bodies))]
    with _library(method, plain, how.seed):
        wrapped = _wrapped(method, plain, application, config, names[0])
        for name in names[1:]:
            wrapped.add_adapter(name, copy.deepcopy(config))
        for name, body in zip(names, bodies, strict=True):
            _set(wrapped, body, name)
        arguments: dict[str, Any] = {"adapters": names, "weights": [how.weight] * len(names), "adapter_name": RESULT}
        if len(COMBINED[method.tuner]) > 1:
            arguments |= {"combination_type": how.name, "density": None if how.name in DENSE else how.density}
        seconds = took(lambda: cast("Any", wrapped).base_model.add_weighted_adapter(**arguments))
        found = get_peft_model_state_dict(wrapped, adapter_name=RESULT, save_embedding_layers=False)
    body = {name: tensor.detach().to("cpu", copy=True) for name, tensor in found.items()}
    return CombinedBody(copy.deepcopy(wrapped.peft_config[RESULT]), body), seconds


def with_parts(
    method: PeftMethod, plain: PreTrainedModel, application: Application, combined: CombinedBody, head: Weights
) -> torch.nn.Module:
    """Return a fresh model with a combined adapter and the head of a task, to infer with."""
    with_head_of(plain, head)
    with _library(method, plain, application.seed):
        wrapped = _wrapped(method, plain, application, copy.deepcopy(combined.config), FIRST)
        _set(wrapped, combined.body, FIRST)
    return cast("torch.nn.Module", wrapped.eval())


def with_head_of(plain: PreTrainedModel, head: Weights) -> PreTrainedModel:
    """Return a plain model, into which a trained head was copied."""
    parameters = dict(plain.named_parameters())
    for name, tensor in head.items():
        parameters[name].data.copy_(tensor)
    return plain


def size_bytes(weights: Weights) -> int:
    """Return the bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in weights.values())


def _bare(method: PeftMethod, plain: PreTrainedModel, application: Application) -> PeftConfig:
    """Return the method's configuration for a body alone. Its weights are set, so they are not drawn in any way."""
    config: Any = method.configuration(plain, application)
    config.modules_to_save = None
    config.task_type = None  # PEFT's models for a task would save its head
    if hasattr(config, "init_lora_weights"):
        config.init_lora_weights = True
    return cast("PeftConfig", config)


def _wrapped(
    method: PeftMethod, plain: PreTrainedModel, application: Application, config: PeftConfig, name: str
) -> PeftModel:
    from peft import get_peft_model

    method.prepare(plain, config, application)
    return cast("PeftModel", get_peft_model(plain, config, adapter_name=name))


def _set(wrapped: PeftModel, body: Weights, name: str) -> None:
    from peft import set_peft_model_state_dict

    found = set_peft_model_state_dict(wrapped, dict(body), adapter_name=name)
    if found.unexpected_keys:
        raise UnsupportedError(f"PEFT cannot load an adapter without its head: {found.unexpected_keys[0]} is unknown")


@contextmanager
def _library(method: PeftMethod, plain: PreTrainedModel, seed: int) -> Iterator[None]:
    doing = f"combine adapters of {method.name}"
    with seeded(seed, plain.device), quiet(plain), faults_as(UnsupportedError, doing):
        yield
