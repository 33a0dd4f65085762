import copy

import torch
from torch import nn

from peftbench.models.copies import copied_to, settled, size_bytes

CPU = torch.device("cpu")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(4)
        self.note = {"kept": [1, 2]}
        self.first.requires_grad_(requires_grad=False)


class Odd(nn.Parameter):
    """A parameter of a class of its own, as quantised ones are."""


def test_a_copy_has_equal_tensors_of_its_own_and_the_same_ties() -> None:
    model = Tied().eval()
    copied, deep = copied_to(model, CPU), copy.deepcopy(model)
    assert type(copied) is Tied
    assert not copied.training
    assert copied.first.weight is copied.second.weight
    assert not copied.first.weight.requires_grad
    assert copied.norm.weight.requires_grad
    assert copied.state_dict().keys() == deep.state_dict().keys()
    for name, tensor in copied.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
        assert tensor.data_ptr() != model.state_dict()[name].data_ptr()
    assert copied.note == model.note
    assert copied.note["kept"] is not model.note["kept"]
    with torch.no_grad():
        copied.norm.running_mean.add_(1)  # type: ignore[union-attr] # a buffer of this class
    assert not model.norm.running_mean.any()  # type: ignore[union-attr] # see above


def test_each_tensor_moves_once_and_others_keep_their_class() -> None:
    model = nn.Module()
    model.odd = Odd(torch.ones(2))
    model.plain = nn.Parameter(torch.ones(2))
    copied = copied_to(model, CPU)
    assert type(copied.odd) is Odd
    assert copied.odd is not model.odd
    assert type(copied.plain) is nn.Parameter


def test_tied_tensors_count_once() -> None:
    assert size_bytes(Tied()) == 4 * (4 * 4 + 4 * 4) + 8
    model = Tied()
    assert settled(model, "host", CPU) is model
    assert settled(model, "device", CPU) is model
