from __future__ import annotations

import pytest
import torch

from peftbench.errors import ValidityError
from peftbench.validity.outputs import difference, is_equal, tolerance


def test_difference_is_the_largest_apart_over_the_largest_element() -> None:
    left = (torch.tensor([1.0, -4.0]), torch.tensor([100.0]))
    right = (torch.tensor([1.5, -4.0]), torch.tensor([100.0]))
    assert difference(left, right) == 0.5 / 4
    assert difference(left, left) == 0
    assert not is_equal(left, right)
    assert is_equal(left, left)


def test_outputs_that_cancelled_out_are_no_scale() -> None:
    near, nearer = torch.tensor([1e-4, 0.0]), torch.tensor([1e-4, 1e-8])
    assert difference((near,), (nearer,)) == pytest.approx(1e-7)


def test_outputs_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValidityError, match=r"^the outputs differ in shape$"):
        difference((torch.zeros(2),), (torch.zeros(3),))


def test_tolerance_is_that_of_the_coarsest_dtype() -> None:
    assert tolerance((torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16))) == 5e-2
    assert tolerance((torch.zeros(1),)) == 1e-5


def test_tf32_widens_it_on_cuda_only() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert tolerance((torch.zeros(1),)) == 1e-5
    finally:
        torch.set_float32_matmul_precision(before)
