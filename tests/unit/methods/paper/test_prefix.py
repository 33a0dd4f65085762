from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from peftbench.errors import UnsupportedError
from peftbench.methods.paper.prefix_modules import ARGUMENT, Prefix, attend_with_prefix, causal_mask, extended, heads

if TYPE_CHECKING:
    from tests.unit.methods.conftest import Lab

    from peftbench.tasks.base import Batch


def make_prefix() -> Prefix:
    return Prefix(prefix_length=5, bottleneck_size=6, activation=nn.Tanh(), layers=2, key_size=8, hidden_size=12)


def test_prefix_is_its_formula() -> None:
    prefix = make_prefix()
    flat = (prefix.tokens.weight @ prefix.down.weight.T + prefix.down.bias).tanh() @ prefix.up.weight.T + prefix.up.bias
    states = prefix()
    assert states.shape == (2, 2, 5, 8)
    for layer in range(2):
        split = heads(states[layer], 4)
        assert split.shape == (2, 4, 5, 2)
        for kind in range(2):
            start = (layer * 2 + kind) * 8
            wanted = flat[:, start : start + 8].view(5, 4, 2).transpose(0, 1)
            torch.testing.assert_close(split[kind], wanted)


@pytest.mark.parametrize("causal", [False, True])
def test_prefix_stands_before_the_own_keys_and_values(*, causal: bool) -> None:
    module = nn.Module()
    module.is_causal = causal  # type: ignore[assignment] # as transformers' attentions have it
    prefix = make_prefix()()[1]
    query, key, value, bias = (torch.randn(3, 4, 9, size) for size in (2, 2, 2, 9))
    seen: dict[str, Any] = {}

    def function(
        _: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        **more: object,
    ) -> None:
        seen.update(query=query, key=key, value=value, mask=mask, **more)

    arguments = {ARGUMENT: prefix, "position_bias": bias, "dropout": 0.5}
    attend_with_prefix(module, query, key, value, None, function=function, **arguments)
    assert torch.equal(seen["query"], query)
    for number, (joined, own) in enumerate(((seen["key"], key), (seen["value"], value))):
        assert joined.shape == (3, 4, 14, 2)
        assert torch.equal(joined[:, :, 5:], own)
        assert all(torch.equal(joined[row, :, :5], heads(prefix, 4)[number]) for row in range(3))
    assert torch.equal(seen["position_bias"][..., 5:], bias)
    assert not seen["position_bias"][..., :5].any()
    assert seen["dropout"] == 0.5
    if causal:
        assert seen["mask"].tolist() == [[[[key < 5 or key - 5 <= query for key in range(14)] for query in range(9)]]]
    else:
        assert seen["mask"] is None

    attend_with_prefix(module, query, key, value, None, function=function, position_bias=bias)
    assert seen["key"] is key
    assert seen["position_bias"] is bias
    assert seen["mask"] is None


def test_mask_lets_every_query_attend_to_the_prefix() -> None:
    assert extended(None, 2) is None
    boolean = extended(torch.tensor([[[[True, False]]]]), 2)
    assert boolean is not None
    assert boolean.tolist() == [[[[True, True, True, False]]]]
    additive = extended(torch.tensor([[[[0.0, -9.0]]]]), 2)
    assert additive is not None
    assert additive.tolist() == [[[[0.0, 0.0, 0.0, -9.0]]]]


def test_positions_are_not_shifted(lab: Lab) -> None:
    model = lab.apply_fitting("prefix", max_position_embeddings=9)
    assert model(input_ids=torch.arange(10, 19)[None]).logits.shape == (1, 3), "all 9 positions are the tokens' own"


def test_the_prefix_is_made_once_a_pass(lab: Lab, batch: Batch) -> None:
    model = lab.apply_fitting("prefix")
    calls = []
    prefix = next(module for module in model.modules() if isinstance(module, Prefix))
    prefix.register_forward_hook(lambda *_: calls.append(1))
    model(**batch)
    assert len(calls) == 1


def test_attentions_can_be_asked_for(lab: Lab, batch: Batch) -> None:
    model = lab.apply_fitting("prefix", attention="eager")
    attentions = model(**batch, output_attentions=True).attentions
    assert [tuple(attention.shape) for attention in attentions] == [(3, 4, 9, 5 + 9)] * 2
    assert not attentions[0][1, :, :, 5 + 6 :].any(), "padding is still masked"


def test_masks_that_are_not_understood(lab: Lab) -> None:
    with pytest.raises(UnsupportedError, match="prefix understands the masks of eager, sdpa, not of flex_attention"):
        lab.apply_fitting("prefix", attention="flex_attention")


def test_starts_as_torch_starts_its_layers(lab: Lab) -> None:
    model = lab.apply("prefix", {"bottleneck_size": 64}, hidden_size=128)
    prefix = next(module for module in model.modules() if isinstance(module, Prefix))
    assert prefix.tokens.weight.shape == (30, 128)
    assert prefix.tokens.weight.std().item() == pytest.approx(1, rel=0.05)
    assert prefix.down.weight.abs().max().item() == pytest.approx(128**-0.5, rel=1e-2)
    assert prefix.up.weight.abs().max().item() == pytest.approx(64**-0.5, rel=1e-2)
    assert isinstance(prefix.activation, nn.Tanh)


def test_a_causal_mask_leaves_out_the_places_of_a_cache_that_no_token_has_filled() -> None:
    query, key = torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 5, 2)
    assert causal_mask(query, key).int().squeeze().tolist() == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
