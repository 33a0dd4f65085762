"""The folder of an adapter as PEFT saves it: its configuration, its weights, how it is trained. No torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from peftbench.errors import UserError, shown, unknown
from peftbench.libraries import reason
from peftbench.records.fileio import parse_json

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
PICKLED: Final = "adapter_model.bin"
TRAINING: Final = "training_params.json"
"""How the adapter is trained, as PEFT's comparison of methods writes it."""

_OF_A_TRAINING: Final = frozenset(
    {
        "attn_implementation", "autocast_adapter_dtype", "batch_size", "batch_size_eval", "compile", "dtype",
        "eval_steps", "generation_kwargs", "grad_norm_clip", "init_kv_cache_prefix", "lr_scheduler", "max_seq_length",
        "max_steps", "model_id", "optimizer_kwargs", "optimizer_type", "query_template", "seed", "use_amp", "use_gc",
    }
)  # fmt: skip
"""Entries of `training_params.json`. Those that are no optimizer's are settings of a run, and options here."""
_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class AdapterTraining:
    """The optimizer's part of `training_params.json`."""

    optimizer: str = "AdamW"
    """A class of `torch.optim`, or `lora-fa`, `lora+` or `riemannian`."""
    learning_rate: float | None = None
    weight_decay: float | None = None
    further: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the optimizer."""
    autocast: bool = True
    """Whether PEFT keeps new weights in float32 where the backbone is in half precision."""


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """An adapter that a user has: a configuration, with weights or without."""

    path: Path
    config: Mapping[str, Any]
    """`adapter_config.json`."""
    weights: Path | None
    """`adapter_model.safetensors`, where there is one."""
    training: AdapterTraining
    digest: str
    """Follows from the contents of both JSON files and of the weights, not from the place of the folder."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the JSON files of a folder, and the header of its weights.

        Raises:
            UserError: a file cannot be read, an entry is unknown or of another type, or the weights are pickled.
        """
        config = _object(path / CONFIG)
        if not isinstance(config.get("peft_type"), str):
            raise UserError(f"{path / CONFIG}: no configuration of PEFT: it must have a peft_type, such as LORA")
        training = _object(path / TRAINING) if (path / TRAINING).exists() else {}
        weights = _weights(path)
        text = json.dumps([config, training, _digest(weights) if weights else None], sort_keys=True)
        return cls(
            path=path,
            config=config,
            weights=weights,
            training=_training(training, path / TRAINING),
            digest=hashlib.sha256(text.encode()).hexdigest()[:_DIGITS],
        )

    @property
    def tuner(self) -> str:
        """The name in `peft.PeftType`."""
        return str(self.config["peft_type"])

    @property
    def task_type(self) -> str | None:
        """The name in `peft.TaskType` of what the weights were trained for; None: of no task's own model."""
        named = self.config.get("task_type")
        return None if named in (None, "FEATURE_EXTRACTION") else str(named)


def is_adapter(path: Path) -> bool:
    """Tell whether a folder holds an adapter's configuration."""
    return (path / CONFIG).is_file()


def _object(path: Path) -> Mapping[str, Any]:
    try:
        data = parse_json(path.read_text(encoding="utf-8"), source=str(path), what_to_do="save the adapter again")
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {reason(error)}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: must be an object, not {type(data).__name__}")
    return data


def _weights(folder: Path) -> Path | None:
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS
    if not path.exists():
        if (folder / PICKLED).exists():
            raise UserError(
                f"{folder / PICKLED}: is pickled, which can run code, so it is not read: save the adapter again with "
                "PEFT, which writes safetensors, or remove the file to measure the configuration alone"
            )
        return None
    try:
        with safe_open(path, framework="numpy"):
            return path
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read, the file is cut short or broken: {reason(error)}") from None


def _digest(path: Path) -> str:
    """Return what follows from each byte of a file: an adapter that was trained on has weights of the same size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _training(params: Mapping[str, Any], path: Path) -> AdapterTraining:
    for name in params:
        if name not in _OF_A_TRAINING:
            raise UserError(f"{path}: {unknown('entry', name, _OF_A_TRAINING)}")
    further = dict(_typed(params, "optimizer_kwargs", dict, path) or {})
    rates = {name: _number(further, name, path) for name in ("lr", "weight_decay")}
    autocast = _typed(params, "autocast_adapter_dtype", bool, path)
    return AdapterTraining(
        optimizer=_typed(params, "optimizer_type", str, path) or "AdamW",
        learning_rate=rates["lr"],
        weight_decay=rates["weight_decay"],
        further={name: value for name, value in further.items() if name not in rates},
        autocast=True if autocast is None else autocast,
    )


def _typed(params: Mapping[str, Any], name: str, kind: type, path: Path) -> Any:  # noqa: ANN401 - of that kind, or None
    value = params.get(name)
    if value is not None and not isinstance(value, kind):
        words = {dict: "an object", bool: "true or false", str: "a text"}
        raise UserError(f"{path}: {name} must be {words[kind]}, not {shown(value)}")
    return value


def _number(params: Mapping[str, Any], name: str, path: Path) -> float | None:
    value = params.get(name)
    if value is None:
        return None
    least = "0 or more" if name == "weight_decay" else "above 0"
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not math.isfinite(value) or not (value >= 0 if name == "weight_decay" else value > 0):
        raise UserError(f"{path}: optimizer_kwargs: {name} must be a number {least}, not {shown(value)}")
    return float(value)
