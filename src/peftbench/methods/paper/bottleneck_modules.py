"""The modules of bottleneck adapters: dense and PHM layers, the bottleneck, and the module that it sits in."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench.methods.paper.replacement import Note, Switchable

Reads = Literal["norm", "output", "residual"]
"""What a bottleneck reads: norm(h + i), h or i (see `AdaptedOutput`)."""


class PHMLinear(nn.Module):
    """A parametrised hypercomplex multiplication, y = x H + b with H = sum over k of kron(rule_k, left_k right_k).

    Source: Compacter, arXiv 2106.04647, section 3; `rule` is shared by all layers of a model.

    Args:
        in_features: size of x; a multiple of n.
        out_features: size of y; a multiple of n.
        rule: [n, n, n].
    """

    def __init__(self, in_features: int, out_features: int, rule: nn.Parameter) -> None:
        super().__init__()
        n = rule.shape[0]
        self.rule = rule
        self.left = nn.Parameter(torch.empty(n, in_features // n, 1))
        self.right = nn.Parameter(torch.empty(n, 1, out_features // n))
        self.bias = nn.Parameter(torch.zeros(out_features))
        for factor in (*self.left, *self.right):
            nn.init.xavier_normal_(factor)

    def matrix(self) -> Tensor:
        """Return H, [in_features, out_features]."""
        n = self.rule.shape[0]
        factors = self.left * self.right
        # Entry (a, i, b, j) of the Kronecker sum is sum_k rule[k, a, b] factors[k, i, j]: one matrix product.
        products = self.rule.flatten(1).T @ factors.flatten(1)
        return products.view(n, n, *factors.shape[1:]).transpose(1, 2).reshape(n * factors.shape[1], -1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in_features] to [..., out_features]."""
        return functional.linear(x, self.matrix().T, self.bias)


class Bottleneck(nn.Module):
    """A(z) = W_up act(W_down z + b) + b'; the residual is added by whoever calls it."""

    def __init__(self, down: Any, activation: nn.Module, up: Any) -> None:  # noqa: ANN401 # dense or PHM
        super().__init__()
        self.down = down
        self.activation = activation
        self.up = up

    def start_at_zero(self) -> None:
        """Initialise dense layers as He et al. do: A is zero at first, and learns."""
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, z: Tensor) -> Tensor:
        """Map [..., hidden] to [..., hidden]."""
        output: Tensor = self.up(self.activation(self.down(z)))
        return output


def dense_linear(in_features: int, out_features: int) -> nn.Linear:
    """Return a linear layer with weights from N(0, 0.02) and biases of zero."""
    linear = nn.Linear(in_features, out_features)
    nn.init.normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear


class AdaptedOutput(Switchable):
    """The last module of a sub-block with an adapter: h + s A(z), which the block adds to the residual input i.

    h is what the module computes, and z is norm(h + i), h or i. A skipped adapter leaves h.

    Args:
        inner: the module whose output is h.
        adapter: A.
        reads: what z is.
        residual: where i is left; none if z is h.
        norm: of h + i; none if the block does nothing to h + i.
        scaling: s.
    """

    def __init__(
        self,
        inner: nn.Module,
        adapter: nn.Module,
        reads: Reads,
        *,
        residual: Note | None = None,
        norm: nn.Module | None = None,
        scaling: float = 1.0,
    ) -> None:
        super().__init__(inner)
        self.adapter = adapter.train(inner.training)
        self.reads = reads
        self.residual = residual
        self._norm = (norm,)  # in a tuple, where torch does not find it: it is the block's
        self.scaling = scaling
        self.dropped_in_training = False
        self.dropped_in_evaluation = False

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map what the module maps to [batch, tokens, hidden]."""
        output: Tensor = self.inner(*inputs)
        residual = self.residual.take() if self.residual is not None else None
        if not self.enabled or (self.dropped_in_training if self.training else self.dropped_in_evaluation):
            return output
        z = output
        if residual is not None:
            z = residual if self.reads == "residual" else self._normed(output + residual)
        return torch.add(output, self.adapter(z), alpha=self.scaling)

    def _normed(self, x: Tensor) -> Tensor:
        norm = self._norm[0]
        return x if norm is None else norm(x)
