from __future__ import annotations

import copy
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import torch

from peftbench.methods.paper.adapter_drop import LAYER_DROP, LayerDrop

if TYPE_CHECKING:
    from tests.unit.methods.conftest import Lab

    from peftbench.tasks.base import Batch


def layer_drop(model: torch.nn.Module) -> LayerDrop:
    drop: LayerDrop = getattr(model, LAYER_DROP)
    return drop


@pytest.mark.parametrize(("layers", "overrides", "most"), [(12, {}, 10), (4, {}, 3), (4, {"max_dropped": 2}, 2)])
def test_every_number_is_drawn_equally_often(layers: int, overrides: dict[str, int], most: int, lab: Lab) -> None:
    model = lab.apply("adapterdrop", overrides, num_hidden_layers=layers)
    draws = Counter(layer_drop(model).begin(step) for step in range(1, 2001))
    assert set(draws) == set(range(most + 1))
    expected = 2000 / (most + 1)
    chi_squared = sum((count - expected) ** 2 / expected for count in draws.values())
    assert chi_squared < 3 * most + 6


def test_draws_depend_on_seed_and_step_alone(lab: Lab) -> None:
    def draws(seed: int) -> list[int]:
        drop = layer_drop(lab.apply("adapterdrop", seed=seed, num_hidden_layers=12))
        assert [drop.begin(step) for step in range(30)] == [drop.begin(step) for step in range(30)]
        return [drop.begin(step) for step in reversed(range(30))]

    assert draws(0) == draws(0)
    assert draws(0) != draws(1)
    assert draws(0)[-1] == 0, "the first step trains every adapter"


def test_a_step_trains_the_layers_that_it_does_not_skip(lab: Lab, batch: Batch) -> None:
    model = lab.apply("adapterdrop", num_hidden_layers=4).train()
    after_step = lab.methods["adapterdrop"].step_hook(model)
    assert after_step is not None
    seen = set()
    for step in range(12):
        skipped = layer_drop(model).begin(step)
        layer_drop(model).begin(0)
        after_step(step - 1)
        model.zero_grad(set_to_none=True)
        model(**batch).loss.backward()
        for layer, block in enumerate(model.base_model.encoder.layer):
            assert all(
                (parameter.grad is None) == (layer < skipped) for parameter in block.output.dropout.adapter.parameters()
            )
        seen.add(skipped)
    assert len(seen) > 1


def test_evaluation_skips_a_fixed_number(lab: Lab, batch: Batch) -> None:
    whole, model = (
        lab.apply("adapterdrop", {"dropped_at_inference": dropped}, num_hidden_layers=3) for dropped in (0, 2)
    )
    wanted = lab.apply("pfeiffer", {"layers": 2}, num_hidden_layers=3)
    wanted.base_model.encoder.layer[2].load_state_dict(model.base_model.encoder.layer[2].state_dict())
    for step in range(4):
        layer_drop(model).begin(step)
        assert torch.equal(model(**batch).logits, wanted(**batch).logits)
    assert not torch.equal(whole(**batch).logits, wanted(**batch).logits)


def test_without_skipped_layers_it_is_pfeiffer(lab: Lab, batch: Batch) -> None:
    pfeiffer, dropping = (lab.apply(name) for name in ("pfeiffer", "adapterdrop"))
    assert torch.equal(pfeiffer(**batch).logits, dropping(**batch).logits)


def test_a_copy_drops_for_itself(lab: Lab) -> None:
    model = lab.apply("adapterdrop", num_hidden_layers=4)
    twin = copy.deepcopy(model)
    step = next(step for step in range(100) if layer_drop(model).begin(step) > 0)
    layer_drop(twin).begin(0)
    assert layer_drop(model).begin(step) > 0
    assert model.base_model.encoder.layer[0].output.dropout.dropped_in_training
    assert not twin.base_model.encoder.layer[0].output.dropout.dropped_in_training
