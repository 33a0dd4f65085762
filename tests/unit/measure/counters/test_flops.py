"""FLOPs of attention, against the products that it stands for, counted by torch."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from peftbench.measure.counters.flops import formula

ROWS, QUERIES, KEYS, WIDTH, VALUES = 2, 5, 7, 8, 6
KINDS = ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")


def by_products(heads: int, key_heads: int) -> tuple[int, int, int]:
    """Return the FLOPs of scores, of a whole forward and of a backward, from matrix products of repeated heads."""
    query = torch.randn(ROWS, heads, QUERIES, WIDTH, requires_grad=True)
    key = torch.randn(ROWS, key_heads, KEYS, WIDTH, requires_grad=True)
    value = torch.randn(ROWS, key_heads, KEYS, VALUES, requires_grad=True)
    key, value = (part.repeat_interleave(heads // key_heads, dim=1) for part in (key, value))
    with FlopCounterMode(display=False) as counted:
        scores = query @ key.mT
        product = counted.get_total_flops()
        result = scores.softmax(-1) @ value
        forward = counted.get_total_flops()
        torch.autograd.backward(result.sum())
    return product, forward, counted.get_total_flops() - forward


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_attention_with_fewer_heads_of_keys_than_of_queries(
    kind: str, key_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each head of the queries has scores of its own. Torch 2.11 counts no such attention, and raises an error."""

    def refusing(*_: object) -> int:
        raise AssertionError("sdpa_flop_count: query/key/value shapes are incompatible")

    for name in ("sdpa_flop_count", "sdpa_backward_flop_count"):
        monkeypatch.setattr(f"torch.utils.flop_counter.{name}", refusing)
    heads = 4
    query = torch.empty(ROWS, heads, QUERIES, WIDTH, device="meta")
    key = torch.empty(ROWS, key_heads, KEYS, WIDTH, device="meta")
    value = torch.empty(ROWS, key_heads, KEYS, VALUES, device="meta")
    grad = torch.empty(ROWS, heads, QUERIES, VALUES, device="meta")
    forward = formula(getattr(torch.ops.aten, f"_scaled_dot_product_{kind}").default)
    backward = formula(getattr(torch.ops.aten, f"_scaled_dot_product_{kind}_backward").default)
    assert forward is not None
    assert backward is not None
    scores, whole, gradients = by_products(heads, key_heads)
    assert forward(query, key, value, 0.0, out_val=None) == whole
    assert backward(grad, query, key, value, out_val=None) == scores + gradients
