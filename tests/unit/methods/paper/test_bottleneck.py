from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from peftbench.methods.paper.bottleneck_modules import AdaptedOutput, Bottleneck, PHMLinear, Reads, dense_linear
from peftbench.methods.paper.replacement import Note, NotedInput

if TYPE_CHECKING:
    from tests.unit.methods.conftest import Lab

    from peftbench.tasks.base import Batch


class PlainEnd(nn.Module):
    """A sub-block that ends in dropout; its norm is the block's."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 12)
        self.ends = nn.Sequential(nn.Linear(12, 8), nn.Dropout(0.5))
        self.norm = nn.LayerNorm(8)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, i: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.norm(self.ends(self.dense(i).tanh()) + i)
        return output


@pytest.mark.parametrize("reads", ["norm", "output", "residual"])
@pytest.mark.parametrize("has_norm", [True, False])
@pytest.mark.parametrize("training", [False, True])
def test_adapted_output_is_its_formula(reads: Reads, *, has_norm: bool, training: bool) -> None:
    torch.manual_seed(0)
    plain = PlainEnd().train(training)
    if not has_norm:
        plain.norm = nn.Identity()  # type: ignore[assignment] # as where the norm comes before
    norm, dense, ends = plain.norm, plain.dense, plain.ends
    adapter = Bottleneck(nn.Linear(8, 2), nn.SiLU(), nn.Linear(2, 8))
    i, note = torch.randn(2, 5, 8), Note()

    torch.manual_seed(1)
    h = ends(dense(i).tanh())
    z = {"norm": norm(h + i), "output": h, "residual": i}[reads]
    a = (z @ adapter.down.weight.T + adapter.down.bias).sigmoid() * (z @ adapter.down.weight.T + adapter.down.bias)
    wanted = norm(h + 1.7 * (a @ adapter.up.weight.T + adapter.up.bias) + i)

    if reads != "output":
        plain.dense = NotedInput(dense, note)  # type: ignore[assignment] # stands for it
    plain.ends = AdaptedOutput(  # type: ignore[assignment] # stands for it
        ends,
        adapter,
        reads,
        residual=None if reads == "output" else note,
        norm=norm if has_norm else None,
        scaling=1.7,
    )
    torch.manual_seed(1)
    torch.testing.assert_close(plain(i), wanted)
    assert note.value is None, "the residual input is not kept"


@pytest.mark.parametrize("training", [False, True])
def test_a_dropped_adapter_leaves_the_plain_output(*, training: bool) -> None:
    plain = nn.Dropout(0.5).train(training)
    module = AdaptedOutput(plain, Bottleneck(dense_linear(8, 2), nn.ReLU(), dense_linear(2, 8)), "output")
    x = torch.randn(2, 5, 8)

    def outputs() -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        adapted = module(x)
        torch.manual_seed(0)
        return adapted, plain(x)

    setattr(module, f"dropped_in_{'evaluation' if training else 'training'}", True)
    assert not torch.equal(*outputs())
    setattr(module, f"dropped_in_{'training' if training else 'evaluation'}", True)
    assert torch.equal(*outputs())


def test_an_end_whose_beginning_was_not_called_says_so() -> None:
    module = AdaptedOutput(nn.Identity(), nn.Identity(), "residual", residual=Note())
    with pytest.raises(RuntimeError, match="was not called before the one that ends h: a wrong anatomy"):
        module(torch.zeros(1, 1, 8))


def test_phm_is_a_sum_of_kronecker_products() -> None:
    torch.manual_seed(0)
    rule = nn.Parameter(torch.randn(3, 3, 3))
    layer = PHMLinear(12, 6, rule)
    nn.init.normal_(layer.bias)
    matrix = sum(torch.kron(rule[k], layer.left[k] @ layer.right[k]) for k in range(3))
    assert isinstance(matrix, torch.Tensor)
    assert matrix.shape == (12, 6)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(layer(x), x @ matrix + layer.bias)


def adapters(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, Bottleneck)]


def weights(model: nn.Module, which: str) -> torch.Tensor:
    return torch.cat([getattr(adapter, which).weight.detach().flatten() for adapter in adapters(model)])


@pytest.mark.parametrize("name", ["houlsby", "pfeiffer", "houlsby-parallel", "pfeiffer-parallel"])
def test_dense_bottlenecks_start_as_normal(name: str, lab: Lab) -> None:
    model = lab.apply(name, {"reduction_factor": 2}, hidden_size=128)
    for which in ("down", "up"):
        values = weights(model, which)
        assert values.std().item() == pytest.approx(0.02, rel=0.03)
        assert values.mean().item() == pytest.approx(0, abs=1e-3)
        assert (values.abs() > 0.04).float().mean().item() == pytest.approx(0.0455, abs=0.01), "normal, not uniform"
        assert not any(getattr(adapter, which).bias.any() for adapter in adapters(model))
    first, second = adapters(model)[:2]
    assert not torch.equal(first.down.weight, second.down.weight)


def test_par_bn_starts_as_the_plain_model(lab: Lab, batch: Batch) -> None:
    wanted = lab.encoder(hidden_size=128)(**batch).logits
    model = lab.apply("par-bn", hidden_size=128)
    assert torch.equal(model(**batch).logits, wanted)
    down = weights(model, "down")
    assert down.abs().max().item() == pytest.approx(128**-0.5, rel=1e-3), (
        "kaiming_uniform(sqrt 5): within 1/sqrt(fan in)"
    )
    assert down.std().item() == pytest.approx((128 * 3) ** -0.5, rel=0.03)
    assert {adapter.down.weight.shape[0] for adapter in adapters(model)} == {64}
    assert not any(adapter.down.bias.any() for adapter in adapters(model))
    assert {module.scaling for module in model.modules() if isinstance(module, AdaptedOutput)} == {4.0}


def test_compacter_starts_as_xavier_normal_with_one_small_rule(lab: Lab) -> None:
    model = lab.apply("compacter", {"reduction_factor": 2, "phm_dim": 16}, hidden_size=256)
    layers = [layer for adapter in adapters(model) for layer in (adapter.down, adapter.up)]
    assert len(layers) == 8
    assert {id(layer.rule) for layer in layers} == {id(layers[0].rule)}
    assert layers[0].rule.std().item() == pytest.approx(1e-4, rel=0.05)
    for factor, fans in (("left", 256 / 16 + 1), ("right", 1 + 128 / 16)):
        values = torch.cat([getattr(adapter.down, factor).detach().flatten() for adapter in adapters(model)])
        assert values.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.08)
    assert not any(layer.bias.any() for layer in layers)


@pytest.mark.parametrize(
    ("name", "activation"),
    [("houlsby", functional.silu), ("pfeiffer", functional.relu), ("compacter", functional.gelu)],
)
def test_default_activations(name: str, activation: Callable[[torch.Tensor], torch.Tensor], lab: Lab) -> None:
    model = lab.apply_fitting(name)
    x = torch.linspace(-3, 3, 50)
    torch.testing.assert_close(adapters(model)[0].activation(x), activation(x))


def test_only_the_chosen_layers_are_adapted(lab: Lab) -> None:
    model = lab.apply("houlsby", {"layers": "0+2-3"}, num_hidden_layers=4)
    layers = {name.split(".")[3] for name, module in model.named_modules() if isinstance(module, AdaptedOutput)}
    assert layers == {"0", "2", "3"}
    model = lab.apply("houlsby", {"layers": 1}, num_hidden_layers=4)
    assert {name.split(".")[3] for name, module in model.named_modules() if isinstance(module, AdaptedOutput)} == {"1"}
