"""A user's function is called as a built-in workload calls the model."""

from __future__ import annotations

import pytest
import torch
from tests.unit.workloads.conftest import MakeSubject

from peftbench.tasks.base import Batch
from peftbench.workloads.function import FunctionWorkload


@pytest.mark.parametrize("autocast", [False, True])
def test_a_function_runs_under_autocast_where_the_record_says_so(subject_of: MakeSubject, *, autocast: bool) -> None:
    subject = subject_of("lora", dtype="bfloat16" if autocast else "float32", autocast=autocast)
    seen: list[tuple[bool, torch.dtype]] = []

    def embed(model: torch.nn.Module, batch: Batch) -> None:
        with torch.no_grad():
            seen.append((torch.is_autocast_enabled("cpu"), model(**batch).logits.dtype))

    FunctionWorkload.of(embed).trial(subject).run(0, lambda: None)
    assert seen == [(autocast, torch.bfloat16 if autocast else torch.float32)]
