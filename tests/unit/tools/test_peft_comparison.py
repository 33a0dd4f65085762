"""PEFT's comparison held to account: bytes without a file, differences that are told, and the order of times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from safetensors.torch import save_file
from tests.records import a_record
from tools import peft_comparison
from tools.peft_comparison import Counted, Measured, Published

from peftbench.matrix.catalogue import Catalogue
from peftbench.methods.base import Application
from peftbench.methods.peft.folder import FolderMethod
from peftbench.models import building
from peftbench.models.presets import Preset, resolve
from peftbench.records.record import Metric, Run

LLAMA: Final = Preset(
    name="small",
    summary="",
    model_type="llama",
    config={
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
)
ROW: Final = Published("lora/a", trained=10, total=100, file_bytes=64, step_ms=2.0, memory_bytes=8.0)
SAME: Final = Counted(trained=10, total=100, tensor_bytes=40, header_bytes=24, device="meta")


def write(folder: Path, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Write experiments, and results that say nothing true."""
    names = "experiment,trainable,total,file_size_b,step_ms,memory_max_b"
    rows = [names, *(f"{experiment},1,2,3,4.0,5.0" for experiment in configs)]
    folder.joinpath("results.csv").write_text("\n".join(rows))
    for experiment, config in configs.items():
        path = folder / "experiments" / experiment
        path.mkdir(parents=True)
        if config:
            path.joinpath("adapter_config.json").write_text(json.dumps(config))


def test_the_header_of_a_file_is_known_without_the_file(tmp_path: Path) -> None:
    tensors = {
        "b.weight": torch.zeros(3, 40),
        "a.é": torch.zeros(7, dtype=torch.bfloat16),
        "c": torch.zeros(2, dtype=torch.int64),
        "d": torch.zeros(0),
    }
    save_file(tensors, tmp_path / "file.safetensors", metadata={"format": "pt"})
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert peft_comparison.header_bytes(tensors) == (tmp_path / "file.safetensors").stat().st_size - held


@pytest.mark.parametrize(
    "config",
    [
        {"peft_type": "LORA", "r": 4, "task_type": "CAUSAL_LM"},
        {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3, "task_type": "CAUSAL_LM", "token_dim": 99},
        {"peft_type": "P_TUNING", "num_virtual_tokens": 3, "encoder_hidden_size": 8, "task_type": "CAUSAL_LM"},
        {"peft_type": "SHIRA", "r": 2, "random_seed": 0},
        {"peft_type": "FROD", "progressbar": False},
    ],
    ids=lambda config: str(config["peft_type"]),
)
def test_what_is_counted_is_what_a_method_trains_and_saves(config: Mapping[str, Any], tmp_path: Path) -> None:
    write(tmp_path, {"mine/one": config, "full-finetuning/two": {}})
    catalogue = Catalogue.load()
    methods = peft_comparison.methods_of(tmp_path, peft_comparison.published(tmp_path), catalogue)
    assert methods["full-finetuning/two"].name == "full"
    source = resolve("small", {"small": LLAMA})
    found = peft_comparison.counted(methods["mine/one"], source, catalogue)
    assert isinstance(found, Counted), found
    needs_values = config["peft_type"] in ("SHIRA", "FROD")
    assert found.device == ("cpu" if needs_values else "meta")
    task = catalogue.task("sft")
    model = building.build_model(source, task, seed=0, dtype="bfloat16")
    applied = methods["mine/one"].apply(model, Application(task=task))
    assert found.trained == sum(p.numel() for p in applied.parameters() if p.requires_grad)
    methods["mine/one"].save(applied, tmp_path)
    assert found.file_bytes == (tmp_path / "adapter_model.safetensors").stat().st_size


def test_shapes_that_follow_from_weights_are_found_by_other_weights(tmp_path: Path) -> None:
    write(tmp_path, {"adamss/one": {"peft_type": "ADAMSS", "r": 4, "num_subspaces": 3, "subspace_rank": 1}})
    catalogue = Catalogue.load()
    (method,) = peft_comparison.methods_of(tmp_path, peft_comparison.published(tmp_path), catalogue).values()
    found = peft_comparison.counted(method, resolve("small", {"small": LLAMA}), catalogue, file_bytes=1)
    assert isinstance(found, Counted)
    assert found.fickle > 0


def test_decompositions_that_are_left_out_keep_their_shapes() -> None:
    wide, thin = torch.randn(4, peft_comparison.COLUMNS + 1), torch.randn(5, 3)
    with peft_comparison.WithoutDecompositions():
        q, r = torch.linalg.qr(wide)
        torch.testing.assert_close(torch.linalg.qr(thin).Q @ torch.linalg.qr(thin).R, thin)
    assert not q.any()
    expected = torch.linalg.qr(wide)
    assert (q.shape, r.shape) == (expected.Q.shape, expected.R.shape)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (SAME, ""),
        (replace(SAME, tensor_bytes=64), "PEFT gives the bytes of the tensors; the file's header has 24 more"),
        (replace(SAME, frozen=5), "the optimizer of training_params.json leaves 5 parameters as they are"),
        (replace(SAME, tensor_bytes=80, pruned_bytes=(30, 50)), "its tensors then have 30 to 50 bytes"),
        (replace(SAME, tensor_bytes=80, pruned_bytes=(50, 60)), "? bytes"),
        (
            replace(SAME, tensor_bytes=-9936, header_bytes=10024, fickle=7),
            "the shapes of 7 of its tensors follow from the values of the weights",
        ),
        (replace(SAME, tensor_bytes=-9936, header_bytes=10024), "? bytes"),
        (replace(SAME, tensor_bytes=-5000, header_bytes=10024, fickle=7), "? bytes"),
    ],
)
def test_a_difference_is_explained_by_what_makes_it_or_not_at_all(found: Counted, told: str) -> None:
    explained = peft_comparison.explanation(ROW, found)
    assert told in explained
    assert bool(explained) is bool(told)
    text = "\n".join(peft_comparison.table([ROW], {ROW.experiment: found}, {}))
    assert f"Without an explanation: {'lora/a' if '?' in told else 'none'}." in text


def test_adalora_is_bounded_by_its_budget_of_ranks(tmp_path: Path) -> None:
    config = {"peft_type": "ADALORA", "init_r": 4, "target_r": 2, "total_step": 9, "tinit": 1, "tfinal": 1}
    write(tmp_path, {"adalora/one": config})
    (method,) = peft_comparison.methods_of(tmp_path, peft_comparison.published(tmp_path), Catalogue.load()).values()
    found = peft_comparison.counted(method, resolve("small", {"small": LLAMA}), Catalogue.load())
    assert isinstance(method, FolderMethod)
    assert isinstance(found, Counted)
    query, value = 4 * (32 + 32 + 1), 4 * (32 + 16 + 1)  # bytes of a rank in float32
    assert found.tensor_bytes == 2 * 4 * (query + value)
    assert found.pruned_bytes == (8 * value, 8 * query)


def test_times_of_a_run_are_ratios_to_lora_and_have_an_order(tmp_path: Path) -> None:
    names = (peft_comparison.REFERENCE, "lora/b", "vera/b", "full-finetuning/x")
    write(tmp_path, {name: {} if name.startswith("full") else {"peft_type": "LORA"} for name in names})
    rows = [replace(ROW, experiment=name, step_ms=10.0 + at, memory_bytes=8.0 + at) for at, name in enumerate(names)]
    methods = peft_comparison.methods_of(tmp_path, rows, Catalogue.load())
    assert [method.name for method in methods.values()][1:] == ["lora.b", "vera.b", "full"]
    records = tuple(
        a_record(
            method.name,
            task="sft",
            batch_size=4,
            seq_len=768,
            metrics={"time_s": Metric(2.0 - at / 4, "s"), "peak_bytes": Metric(8.0 + at, "B")},
        )
        for at, method in enumerate(methods.values())
    )
    run = tmp_path / "run.json"
    run.write_text(json.dumps(Run(fingerprint={}, settings={}, records=records).to_json()))
    times = peft_comparison.times_of(run, methods)
    assert times["lora/b"] == Measured(1.75, 9.0)
    lines = [*peft_comparison.table(rows, dict.fromkeys(names, SAME), times)]
    assert any("| lora/b | 10 | = | 64 | = | 1.10 | 0.88 | 1.12 | 1.12 |" in line for line in lines)
    assert "over 4 experiments: -1.000 of step times, 1.000 of memory" in lines[-1]
