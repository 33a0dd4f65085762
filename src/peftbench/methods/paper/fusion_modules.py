"""The attention of AdapterFusion over the outputs of several adapters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from peftbench.methods.paper.bottleneck_modules import dense_linear


class Fusion(nn.Module):
    """Mixes N frozen adapters, for each token, by attention over their outputs.

    up_n = s A_n(x); q = W_q x + b_q, k_n = W_k up_n + b_k, v_n = W_v up_n; the result is sum over n of p_n v_n with
    p = softmax over n of q.k_n, not divided by sqrt(hidden). In training dropout acts on the products, as it does in
    the `adapters` library. W_v starts as the identity. Source: AdapterFusion, arXiv 2005.00247, section 3.2.

    Args:
        adapters: A_n; frozen here.
        hidden_size: of x.
        scaling: s.
        dropout: probability.
    """

    def __init__(self, adapters: Iterable[nn.Module], *, hidden_size: int, scaling: float, dropout: float) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(adapters).requires_grad_(requires_grad=False)
        self.query = dense_linear(hidden_size, hidden_size)
        self.key = dense_linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size, bias=False)
        nn.init.eye_(self.value.weight)
        self.dropout = nn.Dropout(dropout)
        self.scaling = scaling

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, hidden] to [batch, tokens, hidden]."""
        ups = torch.stack([adapter(x) for adapter in self.adapters], dim=-2)
        if self.scaling != 1.0:
            ups = self.scaling * ups
        products = self.key(ups) @ self.query(x).unsqueeze(-1)
        weights = self.dropout(products).softmax(dim=-2)
        mixed: Tensor = (weights.transpose(-2, -1) @ self.value(ups)).squeeze(-2)
        return mixed


def distance_from_identity(fusions: Iterable[Fusion]) -> Tensor:
    """Return the sum over `fusions` (at least one) of the squared entries of I - W_v, a scalar."""
    weights = [fusion.value.weight for fusion in fusions]
    identity = torch.eye(weights[0].shape[0], device=weights[0].device, dtype=weights[0].dtype)
    return torch.stack([(identity - weight).square().sum() for weight in weights]).sum()
