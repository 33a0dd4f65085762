from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from peftbench.errors import UserError
from peftbench.methods.paper.fusion_modules import Fusion

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.methods.conftest import Lab

    from peftbench.records.ids import Scalar
    from peftbench.tasks.base import Batch


def fusions(model: nn.Module) -> list[Fusion]:
    return [module for module in model.modules() if isinstance(module, Fusion)]


@pytest.mark.parametrize("training", [False, True])
def test_fusion_is_its_formula(*, training: bool) -> None:
    torch.manual_seed(0)
    adapters = [nn.Linear(6, 6) for _ in range(3)]
    fusion = Fusion(adapters, hidden_size=6, scaling=1.5, dropout=0.5).train(training)
    for parameter in fusion.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 5, 6)

    torch.manual_seed(1)
    products = []
    for adapter in adapters:
        q = x @ fusion.query.weight.T + fusion.query.bias
        k = 1.5 * adapter(x) @ fusion.key.weight.T + fusion.key.bias
        products.append((q * k).sum(-1))
    weights = nn.functional.dropout(torch.stack(products, -1)[..., None], 0.5, training=training).softmax(-2)
    wanted = sum(weights[..., n, :] * (1.5 * adapter(x) @ fusion.value.weight.T) for n, adapter in enumerate(adapters))

    torch.manual_seed(1)
    torch.testing.assert_close(fusion(x), wanted)


def test_start(lab: Lab) -> None:
    model = lab.apply("adapterfusion", hidden_size=64, attention_probs_dropout_prob=0.3)
    assert len(fusions(model)) == 2
    for fusion in fusions(model):
        assert len(fusion.adapters) == 6
        assert torch.equal(fusion.value.weight, torch.eye(64))
        assert fusion.dropout.p == 0.3
        assert {name for name, parameter in fusion.named_parameters() if parameter.requires_grad} == {
            "query.weight", "query.bias", "key.weight", "key.bias", "value.weight",
        }  # fmt: skip
        for layer in (fusion.query, fusion.key):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not layer.bias.any()


def test_equal_adapters_are_one_adapter(lab: Lab, batch: Batch, tmp_path: Path) -> None:
    pfeiffer = lab.apply("pfeiffer", seed=5)
    lab.methods["pfeiffer"].save(pfeiffer, tmp_path)
    paths = os.pathsep.join([str(tmp_path)] * 3)
    fused = lab.apply("adapterfusion", {"adapters": 3, "paths": paths})
    torch.testing.assert_close(fused(**batch).logits, pfeiffer(**batch).logits, rtol=0, atol=1e-6)


def test_loads_each_adapter_into_its_place(lab: Lab, tmp_path: Path) -> None:
    saved = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        saved.append(lab.apply("pfeiffer", {"scaling": 2.0}, seed))
        lab.methods["pfeiffer"].save(saved[-1], folder)
    overrides: dict[str, Scalar] = {
        "adapters": 2,
        "scaling": 2.0,
        "paths": os.pathsep.join(str(tmp_path / str(seed)) for seed in (1, 2)),
    }
    model = lab.apply("adapterfusion", overrides)
    for layer, fusion in enumerate(fusions(model)):
        for number, adapter in enumerate(fusion.adapters):
            wanted = saved[number].base_model.encoder.layer[layer].output.dropout.adapter.state_dict()
            assert all(torch.equal(tensor, wanted[name]) for name, tensor in adapter.state_dict().items())


def test_adapters_that_cannot_be_loaded(lab: Lab, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(tmp_path)] * 2)
    with pytest.raises(UserError, match=r"adapter.safetensors: cannot be read .*; give a folder"):
        lab.apply("adapterfusion", {"adapters": 2, "paths": paths})
    with pytest.raises(UserError, match=r"adapterfusion\(paths=.*\): 2 folders are given for 6 adapters$"):
        lab.apply("adapterfusion", {"paths": paths})
    lab.methods["pfeiffer"].save(lab.apply("pfeiffer", {"scaling": 2.0}), tmp_path)
    with pytest.raises(UserError, match=r"saved from pfeiffer with .*'scaling': 2.0.*, not from pfeiffer with .*1.0"):
        lab.apply("adapterfusion", {"adapters": 2, "paths": paths})
    lab.methods["houlsby"].save(lab.apply("houlsby"), tmp_path)
    with pytest.raises(UserError, match="saved from houlsby with"):
        lab.apply("adapterfusion", {"adapters": 2, "paths": paths})


def test_a_checkpoint_belongs_to_its_adapters(lab: Lab, tmp_path: Path) -> None:
    fusion = lab.methods["adapterfusion"]
    fusion.save(lab.apply_fitting("adapterfusion", seed=1), tmp_path)
    with pytest.raises(UserError, match=r"saved with adapters \w{16}, not \w{16}$"):
        fusion.load(lab.encoder(), lab.fitting("adapterfusion", seed=2), tmp_path)


def test_loaded_adapters_may_move(lab: Lab, batch: Batch, tmp_path: Path) -> None:
    here, there, fused = (tmp_path / name for name in ("here", "there", "fused"))
    for folder in (here, there, fused):
        folder.mkdir()
    pfeiffer, fusion = lab.methods["pfeiffer"], lab.methods["adapterfusion"]
    pfeiffer.save(lab.apply("pfeiffer", seed=5), here)
    pfeiffer.save(lab.apply("pfeiffer", seed=5), there)
    model = lab.apply("adapterfusion", {"adapters": 2, "paths": os.pathsep.join([str(here)] * 2)}, seed=1)
    lab.perturb(model)
    fusion.save(model, fused)
    moved = lab.application({"adapters": 2, "paths": os.pathsep.join([str(there)] * 2)}, seed=2)
    assert torch.equal(fusion.load(lab.encoder(), moved, fused)(**batch).logits, model(**batch).logits)


def test_regularisation_is_the_distance_from_the_identity(lab: Lab) -> None:
    method, model = lab.methods["adapterfusion"], lab.apply_fitting("adapterfusion")
    loss = method.auxiliary_loss(model)
    assert loss is not None
    assert loss.item() == 0
    shifts = [torch.randn(32, 32) for _ in fusions(model)]
    with torch.no_grad():
        for fusion, shift in zip(fusions(model), shifts, strict=True):
            fusion.value.weight.add_(shift)
    loss = method.auxiliary_loss(model)
    assert loss is not None
    assert loss.item() == pytest.approx(0.01 * sum(shift.square().sum().item() for shift in shifts), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call] # torch
    torch.testing.assert_close(fusions(model)[1].value.weight.grad, 0.02 * shifts[1])


def test_other_methods_have_no_auxiliary_loss(lab: Lab) -> None:
    for name in lab.methods.keys() - {"adapterfusion"}:
        assert lab.methods[name].auxiliary_loss(lab.apply_fitting(name)) is None
