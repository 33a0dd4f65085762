"""Which layers a tuner adapts: PEFT's own default where it has one for the model, else what its structure tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from peftbench.errors import UnsupportedError
from peftbench.methods.peft import roles
from peftbench.methods.peft.layers import ALL_LINEAR, backbone, is_linear, known_names, matches, other_readers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Targets:
    """What a configuration takes from a model's structure."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """`target_modules`, and `feedforward_modules` of (IA)^3."""
    remark: str = ""
    """What a reader of the numbers must know of it: where it is not PEFT's default."""


Choice = Callable[["PreTrainedModel", str], Targets]
"""Chooses the layers of a model for a tuner, by its name in `peft.PeftType`; UnsupportedError where there are none."""


def queries_and_values(model: PreTrainedModel, tuner: str) -> Targets:
    """Adapt what PEFT adapts by default; else the query and value projections of every attention."""
    return _default(model, tuner) or _derived(model, roles.queries_and_values(roles.linear_layers(model)))


def values(model: PreTrainedModel, tuner: str) -> Targets:
    """Adapt what PEFT adapts by default; else the value projections."""
    return _default(model, tuner) or _derived(model, roles.values(roles.linear_layers(model)))


def keys_values_and_feed_forward(model: PreTrainedModel, tuner: str) -> Targets:
    """Scale what PEFT's (IA)^3 scales by default; else keys, values and the inside of the feed-forward block.

    In BERT-like blocks the name of the feed-forward's output layer fits the attention's as well, whose input is then
    scaled, too, as PEFT does it with BERT's.
    """
    if known := _default(model, tuner):
        names = known.settings["target_modules"]
        inner = _known_to_peft(model, tuner, "FEEDFORWARD") or []
        wanted = [name for name in names if any(name == end or name.endswith(f".{end}") for end in inner)]
        return Targets({**known.settings, "feedforward_modules": wanted}, known.remark)
    layers = roles.linear_layers(model)
    output = roles.feed_forward_outputs(layers)
    found = _derived(model, [*roles.keys_and_values(layers), *output])
    inside = [name for name in found.settings["target_modules"] if name in output or _ends(name, output)]
    return Targets({**found.settings, "feedforward_modules": inside}, found.remark)


def norms(model: PreTrainedModel, tuner: str) -> Targets:
    """Train what PEFT trains by default; else every normalisation layer.

    Raises:
        UnsupportedError: the model has none.
    """
    if known := _default(model, tuner):
        return known
    found = [name for name, module in backbone(model) if type(module).__name__.endswith("Norm")]
    if not found:
        raise UnsupportedError(f"{model.config.model_type} has no normalisation layers")
    ends = sorted({name.rpartition(".")[2] for name in found})
    # Of ModernBERT's first layer what norms elsewhere is an identity, which PEFT cannot train.
    others = {name for name, _ in backbone(model) if _ends(name, ends)}.difference(found)
    return Targets({"target_modules": found if others else _names(model, ends)})


def all_linear(model: PreTrainedModel, tuner: str) -> Targets:
    """Adapt what PEFT adapts by default; else every linear layer of the backbone."""
    if known := _default(model, tuner):
        return known
    if not other_readers(model):
        return Targets({"target_modules": ALL_LINEAR})
    return Targets({"target_modules": [name for name, module in backbone(model) if is_linear(module)]})


def token_shape(model: PreTrainedModel, tuner: str) -> Targets:
    """Adapt no layer: prompts lengthen the input by what is as wide as a token's embedding.

    PEFT takes the width of the hidden states, and that only where a configuration calls it by one of three names.
    """
    del tuner
    text = model.config.get_text_config()
    try:
        width = model.get_input_embeddings().weight.shape[-1]
    except NotImplementedError:
        return Targets()  # PEFT says what it lacks
    shape = {"num_layers": "num_hidden_layers", "num_attention_heads": "num_attention_heads"}
    known = {ours: getattr(text, theirs) for ours, theirs in shape.items() if hasattr(text, theirs)}
    return Targets({"token_dim": width, **known})


def no_layers(model: PreTrainedModel, tuner: str) -> Targets:
    """Adapt no layer: the tuner lengthens the input."""
    del model, tuner
    return Targets()


def key_value_prefix(model: PreTrainedModel, tuner: str) -> Targets:
    """Adapt no layer, but make sure that the backbone takes keys and values from outside.

    Raises:
        UnsupportedError: it takes none.
    """
    import inspect

    del tuner
    if "past_key_values" not in inspect.signature(model.base_model.forward).parameters:
        raise UnsupportedError(f"{model.config.model_type} takes no past_key_values, in which PEFT passes a prefix")
    return Targets()


def structure(choose: Choice, model: PreTrainedModel, tuner: str, overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a configuration takes from the model; of layers that the user names, which are the inner ones.

    PEFT would take its own inner ones ((IA)^3: whose input is scaled), and refuse those that are not adapted.
    """
    if "target_modules" not in overrides:
        return choose(model, tuner).settings
    inner: Sequence[str] | None = None
    with suppress(UnsupportedError):
        inner = choose(model, tuner).settings.get("feedforward_modules")
    chosen = overrides["target_modules"]
    if inner is None or isinstance(chosen, str):
        return {}
    return {"feedforward_modules": [name for name in inner if name in chosen]}


def _default(model: PreTrainedModel, tuner: str) -> Targets | None:
    """Return PEFT's default for the model's type, those of its names that are there; None where none is."""
    known = _known_to_peft(model, tuner, "TARGET")
    if not known:
        return None
    if isinstance(known, str):
        found = any(matches(name, module, known) for name, module in backbone(model))
        return Targets({"target_modules": known}) if found else None
    there = [end for end in known if any(_ends(name, [end]) for name, _ in backbone(model))]
    if not there:
        return None
    missing = [end for end in known if end not in there]
    lacks = f"of PEFT's default layers for {model.config.model_type} this model has no {', '.join(missing)}"
    return Targets({"target_modules": _names(model, there)}, lacks if missing else "")


def _derived(model: PreTrainedModel, names: Sequence[str]) -> Targets:
    """Return layers that were told by their shape and place.

    Raises:
        UnsupportedError: there are none.
    """
    if not names:
        raise UnsupportedError(f"cannot tell the attention's layers; say target_modules=..., of {known_names(model)}")
    remark = (
        f"PEFT has no default layers for {model.config.model_type}: {', '.join(names)} are adapted, "
        "told by the shape and place of the model's linear layers"
    )
    return Targets({"target_modules": _names(model, names)}, remark)


def _names(model: PreTrainedModel, ends: Sequence[str]) -> list[str]:
    """Return names by which PEFT finds the layers; their full ones where parts that read no text have such as well."""
    if not other_readers(model):
        return list(ends)
    return [name for name, _ in backbone(model) if _ends(name, ends)]


def _ends(name: str, ends: Sequence[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def _known_to_peft(model: PreTrainedModel, tuner: str, part: str) -> list[str] | str | None:
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.utils import constants
    from peft.utils.peft_types import PeftType

    tuner_class = PEFT_TYPE_TO_TUNER_MAPPING[PeftType[tuner]]
    name = f"TRANSFORMERS_MODELS_TO_{tuner}_{part}_MODULES_MAPPING"  # (IA)^3's class does not hold its own
    table: Mapping[str, Any] = getattr(constants, name, None) or getattr(tuner_class, "target_module_mapping", {})
    types = (model.config.model_type, model.config.get_text_config().model_type)
    known = next((table[name] for name in types if name in table), None)
    return cast("list[str] | str | None", list(known) if isinstance(known, list | tuple | set) else known)
