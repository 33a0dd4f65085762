"""What a run refuses before it builds anything, and models that do not say all that a run needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftbench.backend import Backend
from peftbench.catalogue import Catalogue
from peftbench.errors import UserError
from peftbench.settings import Settings

CATALOGUE = Catalogue.load()
NLI = CATALOGUE.task("nli")


def settings(folder: Path, **changes: object) -> Settings:
    return Settings(**{"model": str(folder), "device": "cpu", "seq_len": 8, **changes})  # type: ignore[arg-type]


def test_an_architecture_without_sdpa_is_told_the_option_that_it_needs(tmp_path: Path) -> None:
    from transformers import DebertaV2Config, DebertaV2Model

    config = DebertaV2Config(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    DebertaV2Model(config).save_pretrained(tmp_path)
    with pytest.raises(UserError) as error:
        Backend.open(settings(tmp_path), CATALOGUE, [NLI])
    assert str(error.value) == (
        f"model {str(tmp_path)!r} has no scaled-dot-product attention in transformers: give --peftbench-attention=eager"
    )
    backend = Backend.open(settings(tmp_path, attention="eager"), CATALOGUE, [NLI])
    assert backend.new_model(NLI, seed=0).config._attn_implementation == "eager"
