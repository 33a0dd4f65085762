"""A few rows of PEFT's own comparison on its own shape: what they train and weigh is what PEFT published.

Facts of huggingface/peft (Apache-2.0), method_comparison/MetaMathQA, commit 5d602fdb. Nothing is allocated: the model
of 3.2 billion parameters is on `meta`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from tools import peft_comparison
from tools.peft_comparison import Counted

from peftbench.matrix.catalogue import Catalogue
from peftbench.models.presets import resolve

LORA: Final[dict[str, Any]] = {"peft_type": "LORA", "r": 32, "lora_alpha": 64, "task_type": "CAUSAL_LM"}
PUBLISHED: Final[dict[str, tuple[dict[str, Any], dict[str, Any], int, int]]] = {
    "lora/rank32": (LORA, {}, 9_175_040, 36_715_216),
    "lora/rank32-dora": ({**LORA, "use_dora": True}, {}, 9_289_728, 37_181_760),
    "lora/rank32-lorafa": (LORA, {"optimizer_type": "lora-fa"}, 3_670_016, 36_715_216),
    "ia3/default": ({"peft_type": "IA3"}, {}, 286_720, 1_157_064),
    "ln_tuning/default": ({"peft_type": "LN_TUNING"}, {}, 175_104, 358_288),
    "prefixtuning/tokens200": (
        {"peft_type": "PREFIX_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 200, "token_dim": 3072},
        {},
        11_468_800,
        45_875_328,
    ),
    "adaptionprompt/default": (
        {"peft_type": "ADAPTION_PROMPT", "adapter_layers": 28, "adapter_len": 100},
        {},
        8_601_628,
        17_210_384,
    ),
}
"""Experiment -> configuration, training, trained parameters, bytes of the checkpoint."""


@pytest.mark.parametrize("experiment", PUBLISHED)
def test_trained_parameters_and_bytes_are_those_that_peft_published(experiment: str, tmp_path: Path) -> None:
    config, training, trained, file_bytes = PUBLISHED[experiment]
    folder = tmp_path / "experiments" / experiment
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "training_params.json").write_text(json.dumps(training))
    row = peft_comparison.Published(experiment, trained, 0, file_bytes, 0.0, 0.0)
    catalogue = Catalogue.load()
    methods = peft_comparison.methods_of(tmp_path, [row], catalogue)
    source = resolve(peft_comparison.SHAPE, catalogue.models)
    found = peft_comparison.counted(methods[experiment], source, catalogue)
    assert isinstance(found, Counted), found
    assert (found.device, found.trained, found.file_bytes) == ("meta", trained, file_bytes)
