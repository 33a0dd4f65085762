"""Models: presets built from a configuration, local folders and hub ids. Imports no torch, builds nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from peftbench.config.places import folder_of, is_there
from peftbench.errors import UserError, shown, unknown
from peftbench.libraries import reason

MIN_SEQ_LEN: Final = 8
"""Tokens that a pair of texts needs at least: its special tokens and a few words."""

PADDED_POSITIONS: Final = frozenset(
    {
        "camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet",
        "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip
"""Model types that count positions from the padding id + 1: that many of their positions hold no token."""

_POSITIONS: Final = ("max_position_embeddings", "n_positions", "max_encoder_position_embeddings", "max_seq_len")
"""What configurations call the number of their positions: most, GPT-2's kin, LED, MPT."""
_ADAPTER: Final = "adapter_model"
"""What the names of an adapter's weights begin with, which can lie beside a model's."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """An architecture that is built from a configuration, with seeded random weights."""

    name: str
    summary: str
    model_type: str
    """What transformers calls the architecture."""
    config: Mapping[str, Any]
    """Arguments of its configuration, special tokens included; what is left out is transformers' default."""
    seq_len: int | None = None
    """Sequence length if none is asked for; None: the task's own."""
    tasks: tuple[str, ...] = ()
    """Tasks that are measured if none is named; empty: every task that is a default."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from: a preset, else a local folder, else the hub."""

    name: str
    """As the user wrote it."""
    preset: Preset | None = None
    folder: Path | None = None

    @property
    def random_weights(self) -> bool:
        """Whether the weights are random: true of presets (time does not depend on them, quality does)."""
        return self.preset is not None

    @property
    def location(self) -> str:
        """What transformers' `from_pretrained` is called with."""
        return str(self.folder) if self.folder else self.name


def resolve(name: str, presets: Mapping[str, Preset]) -> ModelSource:
    """Find the model that `name` stands for: a preset, an existing folder, or `owner/name` on the hub.

    Of a folder, the configuration and the headers of the weights are read, so that a broken one is known at once.

    Raises:
        UserError: no such preset or folder, or the folder's configuration or weights cannot be read.
    """
    if name in presets:
        return ModelSource(name, preset=presets[name])
    if (folder := folder_of(name)) is not None:
        _check_weights(folder)
        source = ModelSource(name, folder=folder)
        raw_config(source)
        return source
    if is_there(Path(name)):
        raise UserError(f"model {shown(name)} is a file: give the folder that holds config.json and model.safetensors")
    if _HUB_ID.fullmatch(name) and name[0] != ".":
        return ModelSource(name)
    if "/" in name or name.startswith((".", "~")):
        raise UserError(
            f"model folder {shown(name)} does not exist: give a folder with config.json and model.safetensors"
        )
    raise UserError(f"{unknown('model', name, presets)}; or a folder with config.json, or a hub id such as owner/name")


def raw_config(source: ModelSource) -> Mapping[str, Any]:
    """Return a preset's or a folder's configuration as it is written down; empty for a hub id.

    Raises:
        UserError: the folder has no config.json that can be read.
    """
    if source.preset:
        return {"model_type": source.preset.model_type, **source.preset.config}
    if not source.folder:
        return {}
    path = source.folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"model folder {source.name!r} has no config.json: save a model there") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UserError(f"{path} is no model's configuration: it must be an object with a model_type")
    return config


def max_positions(config: Mapping[str, Any]) -> int | None:
    """Return the longest sequence of a configuration (`PretrainedConfig.to_dict()`, or raw) in tokens, if it says one.

    RoBERTa's family gives tokens the positions from padding id + 1 on, so XLM-R's 514 positions hold 512 tokens.
    """
    positions = next((n for n in map(config.get, _POSITIONS) if isinstance(n, int) and n > 0), None)
    if positions is None or config.get("model_type") not in PADDED_POSITIONS:
        return positions
    padding = config.get("pad_token_id")
    return positions - 1 - (padding if isinstance(padding, int) else 1)


def check_seq_len(name: str, config: Mapping[str, Any], seq_len: int) -> None:
    """Raise UserError where the model called `name` cannot take sequences of `seq_len` tokens."""
    if seq_len < MIN_SEQ_LEN:
        raise UserError(f"sequence length {seq_len} is too short: a pair of texts needs at least {MIN_SEQ_LEN} tokens")
    longest = max_positions(config)
    if longest is not None and seq_len > longest:
        raise UserError(f"sequence length {seq_len} is too long: model {name!r} has positions for {longest} tokens")


def _check_weights(folder: Path) -> None:
    from safetensors import SafetensorError, safe_open

    files = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith(_ADAPTER))
    pickles = sorted(path.name for path in folder.glob("*.bin") if not path.name.startswith(_ADAPTER))
    if not files and pickles:
        raise UserError(
            f"model folder {str(folder)!r} holds only pickled weights ({pickles[0]}), which can run code: "
            "only safetensors are read; convert it with save_pretrained(...)"
        )
    if not files and any(folder.glob(f"{_ADAPTER}*")):
        raise UserError(
            f"model folder {str(folder)!r} holds an adapter and no model: give the folder of the model that it adapts"
        )
    if not files:
        raise UserError(f"model folder {str(folder)!r} has no weights: it must hold model.safetensors")
    for path in files:
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"weights {path} cannot be read, the file is cut short or broken: {reason(error)}"
            ) from None


def _bert(**changes: Any) -> Mapping[str, Any]:  # noqa: ANN401 - as the configuration takes them
    special = {"pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102}
    shape = {"vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12}
    return MappingProxyType({**special, **shape, **changes})


def _xlmr(**changes: Any) -> Mapping[str, Any]:  # noqa: ANN401 - as the configuration takes them
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    shape = {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    return MappingProxyType({**special, **shape, **changes})


def llama(**changes: Any) -> Mapping[str, Any]:  # noqa: ANN401 - as the configuration takes them
    """Return the configuration of a model of Llama's kin, with tied embeddings unless the changes say otherwise."""
    special = {"bos_token_id": 1, "eos_token_id": 2}
    return MappingProxyType({**special, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, **changes})


_TINY: Final = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "vocab_size": 512,
}

PRESETS: tuple[Preset, ...] = (
    Preset(
        name="tiny",
        summary="BERT of 2 layers of 128, for a CPU",
        model_type="bert",
        config=_bert(**_TINY, max_position_embeddings=128, bos_token_id=2, eos_token_id=3),
        seq_len=32,
    ),
    Preset(
        name="tiny-xlmr",
        summary="XLM-R of 2 layers of 128, for a CPU",
        model_type="xlm-roberta",
        config=_xlmr(**_TINY, max_position_embeddings=130),
        seq_len=32,
    ),
    Preset(
        name="tiny-llama",
        summary="Llama of 2 layers of 128, for a CPU",
        model_type="llama",
        config=llama(**_TINY, num_key_value_heads=2, max_position_embeddings=512),
        seq_len=32,
        tasks=("sft",),
    ),
    Preset(
        name="bert-base",
        summary="the shape of google-bert/bert-base-uncased: 12 layers of 768, vocabulary 30,522",
        model_type="bert",
        config=_bert(),
    ),
    Preset(
        name="xlmr-base",
        summary="the shape of FacebookAI/xlm-roberta-base: 12 layers of 768, vocabulary 250,002",
        model_type="xlm-roberta",
        config=_xlmr(),
    ),
    Preset(
        name="xlmr-large",
        summary="the shape of FacebookAI/xlm-roberta-large: 24 layers of 1024, vocabulary 250,002",
        model_type="xlm-roberta",
        config=_xlmr(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
    ),
    Preset(
        name="indicbert-v2",
        summary="the shape of ai4bharat/IndicBERTv2-MLM-only: BERT base with a vocabulary of 250,000",
        model_type="bert",
        config=_bert(vocab_size=250000, bos_token_id=2, eos_token_id=3),
    ),
)
