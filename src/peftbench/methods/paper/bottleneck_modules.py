"""The modules of bottleneck adapters: dense and PHM layers, the bottleneck, and the output module that it sits in."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Reads = Literal["norm", "output", "residual"]
"""What a bottleneck reads in a block's output module: LN(h + i), h or i (see `AdaptedOutput`)."""


class Replacement(nn.Module):
    """A module that stands for another one."""

    def original(self) -> nn.Module:
        """Return the module that it stands for."""
        raise NotImplementedError


class Switchable(Replacement):
    """A module that stands for another one, and can be told to compute what that one would."""

    enabled: bool = True


def restore(model: nn.Module) -> None:
    """Put the module that each `Replacement` within `model` stands for back in its place."""
    for name, child in [*model.named_children()]:
        plain = child
        while isinstance(plain, Replacement):
            plain = plain.original()
        if plain is not child:
            setattr(model, name, plain)
        restore(plain)


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
    """The output module of a BERT-like sub-block with an adapter: LN(h + s A(z) + i).

    h = dropout(dense(x)), i is the residual input, and z is LN(h + i), h or i. It takes over the layers of the output
    module that it stands for under their names. A skipped adapter leaves that module's own LN(h + i).

    Args:
        output: the `BertOutput`, `BertSelfOutput` or their like; its layers are moved, not copied.
        adapter: A; gets the device, dtype and mode of `output`.
        reads: what z is.
        scaling: s.
    """

    def __init__(self, output: Any, adapter: nn.Module, reads: Reads, scaling: float = 1.0) -> None:  # noqa: ANN401 # untyped library
        super().__init__()
        self._replaced = (output,)  # in a tuple, where torch does not find it: its layers are this module's
        self.dense = output.dense
        self.dropout = output.dropout
        self.LayerNorm = output.LayerNorm
        self.adapter = adapter.to(device=output.dense.weight.device, dtype=output.dense.weight.dtype)
        self.reads = reads
        self.scaling = scaling
        self.dropped_in_training = False
        self.dropped_in_evaluation = False
        self.train(output.training)

    def original(self) -> nn.Module:
        """Return the output module, in this one's mode."""
        output: nn.Module = self._replaced[0]
        return output.train(self.training)

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """Map x [batch, tokens, inner] and i [batch, tokens, hidden] to [batch, tokens, hidden]."""
        output = self.dropout(self.dense(hidden_states))
        if not self.enabled or (self.dropped_in_training if self.training else self.dropped_in_evaluation):
            normed: Tensor = self.LayerNorm(output + input_tensor)
            return normed
        if self.reads == "norm":
            z = self.LayerNorm(output + input_tensor)
        elif self.reads == "output":
            z = output
        else:
            z = input_tensor
        adapted: Tensor = self.LayerNorm(torch.add(output, self.adapter(z), alpha=self.scaling) + input_tensor)
        return adapted
