"""The tool that tries methods on architectures: what it finds, and the page that it writes."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tools import check_backbones
from tools.backbone_cells import Cell, page
from tools.backbones import ARCHITECTURES

METHODS = ("full", "lora", "ia3")


def test_there_are_all_the_kinds_that_people_brought() -> None:
    assert len(ARCHITECTURES) >= 46
    names = [architecture.name for architecture in ARCHITECTURES]
    assert len(set(names)) == len(names)
    assert {*check_backbones.QUICK, *check_backbones.ALL_METHODS_ON} <= set(names)


@pytest.mark.parametrize(("name", "files"), [("Llama", True), ("T5", False), ("GPT-2", True)])
def test_every_cell_is_ok_or_has_a_reason(name: str, files: bool) -> None:  # noqa: FBT001
    found = list(check_backbones.walk([name], METHODS, ["nli", "ner", "qa", "copa", "sft"], files=files))
    assert len(found) == 5 * len(METHODS)
    by_status = {cell.status: cell.reason for cell in found}
    assert set(by_status) == {"ok", "unsupported"}
    assert {cell.task for cell in found if cell.status != "ok"} == {"copa", "sft"} - (
        {"sft"} if name != "T5" else set()
    )
    no_head = r".* no AutoModelFor(MultipleChoice|CausalLM) for model type"
    assert all(re.match(no_head, cell.reason) for cell in found if cell.status != "ok")


def test_a_model_that_is_refused_is_one_cell() -> None:
    (cell,) = check_backbones.walk(["ViT"], METHODS, ["nli"], files=False)
    assert (cell.method, cell.status) == ("*", "refused")
    assert "reads no text" in cell.reason


def test_a_traceback_is_a_crash_and_makes_the_tool_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:  # noqa: ANN401
        raise ZeroDivisionError("by zero")

    file = tmp_path / "cells.jsonl"
    arguments = ["--only", "BERT", "--methods", "full", "lora", "--tasks", "nli", "--cells", str(file)]
    monkeypatch.setattr("peftbench.validity.check.check", broken)
    monkeypatch.setattr(sys, "argv", ["check_backbones.py", *arguments])
    assert check_backbones.main() == 1
    printed = capsys.readouterr().out
    assert "BERT full nli: crash: ZeroDivisionError: by zero (test_check_backbones.py:" in printed
    assert {json.loads(line)["status"] for line in file.read_text().splitlines()} == {"crash"}


def test_the_page_gives_equal_reasons_one_number() -> None:
    no_head = "transformers has no AutoModelForMultipleChoice for model type '{}' (folder)"
    cells = [
        Cell("Llama", "lora", "nli", "ok"),
        Cell("Llama", "ia3", "nli", "ok"),
        Cell("Llama", "lora", "copa", "unsupported", no_head.format("llama")),
        Cell("Llama", "ia3", "copa", "unsupported", no_head.format("llama")),
        Cell("OPT", "lora", "nli", "ok"),
        Cell("OPT", "ia3", "nli", "invalid", "no gradient reaches x"),
        Cell("OPT", "lora", "copa", "unsupported", no_head.format("opt")),
        Cell("OPT", "ia3", "copa", "unsupported", no_head.format("opt")),
        Cell("ViT", "*", "*", "refused", "reads no text"),
    ]
    text = page(cells, {"layers": ("lora", "ia3")}, ["OPT"], ["nli", "copa"])
    assert "| Llama | ok; 1 (copa) |" in text
    assert "| OPT | ok; 1 (copa); 2 (ia3 nli) |" in text
    assert "| ViT | 3 |" in text
    assert "| ia3 | 2 |" in text
    assert "1. unsupported: transformers has no AutoModelForMultipleChoice for this model type\n" in text
    assert "2. invalid: no gradient reaches x\n3. refused: reads no text\n" in text
