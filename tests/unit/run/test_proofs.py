"""What is remembered of a method that failed: its reason, and nothing that was alive then."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import torch

from peftbench.config.settings import Settings
from peftbench.errors import ValidityError
from peftbench.matrix.catalogue import Catalogue
from peftbench.methods.basic import SelectiveMethod
from peftbench.records.ids import Case, MethodSpec
from peftbench.run.proofs import Proofs
from peftbench.workloads.backend import Backend

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.methods.base import Application

CASE = Case(MethodSpec("idle"), "nli", 1)


class Idle(SelectiveMethod):
    """Trains nothing, and remembers weakly what it was applied to."""

    def apply(self, model: PreTrainedModel, application: Application) -> torch.nn.Module:
        del application
        APPLIED.append(weakref.ref(cast("torch.nn.Module", model)))
        return cast("torch.nn.Module", model.requires_grad_(requires_grad=False))


APPLIED: list[weakref.ref[torch.nn.Module]] = []


def test_a_method_that_failed_fails_again_and_leaves_no_model_behind() -> None:
    APPLIED.clear()
    catalogue = Catalogue.load()
    backend = Backend.open(Settings(model="tiny", device="cpu", seq_len=8), catalogue, [catalogue.task("nli")])
    method = Idle(name="idle", family="", summary="", source="")
    subject = replace(backend.group("nli", 1).subject(MethodSpec("head")), method=method)
    proofs = Proofs()
    reasons = []
    for _ in range(2):
        with pytest.raises(ValidityError) as caught:
            proofs.of(CASE, subject)
        reasons.append(str(caught.value))
        del caught
    assert reasons[0] == reasons[1]
    assert len(APPLIED) == 1
    gc.collect()
    assert APPLIED[0]() is None
