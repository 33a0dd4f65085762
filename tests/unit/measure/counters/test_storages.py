from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from peftbench.measure.counters.dispatch import OperatorWork, longest, observe
from peftbench.measure.counters.storages import saved_bytes
from peftbench.records.record import OperatorShare

ROWS, WIDTH = 4, 5


def floats(count: int) -> int:
    return 4 * count


def freed_and_made() -> None:
    a = torch.ones(1000)
    b = torch.ones(500)
    del a
    c = torch.ones(250)
    del b, c


def views_and_in_place() -> None:
    a = torch.ones(10, 10)
    a.t().diagonal().add_(1)
    a[2:4].mul_(2)
    first, _ = a.chunk(2)
    first.zero_()


def from_data() -> None:
    torch.tensor([1.0, 2.0, 3.0]).add_(1)


def grown_output() -> None:
    out = torch.empty(0)
    torch.stack([torch.ones(10), torch.ones(10)], out=out)


def resized() -> None:
    torch.ones(10).resize_(30)


def many_at_once() -> None:
    torch._foreach_add([torch.ones(10), torch.ones(20)], 1.0)


def untyped_alias() -> None:
    torch.ones(12).unsafe_split(6)


@pytest.mark.parametrize(
    ("run", "peak", "allocations"),
    [
        (freed_and_made, floats(1500), 3),
        (views_and_in_place, floats(100), 1),
        (from_data, floats(3), 1),
        (grown_output, floats(20 + 20), 3),
        (resized, floats(30), 2),
        (many_at_once, floats(60), 4),
        (untyped_alias, floats(12), 1),
    ],
)
def test_peak_and_allocations_of_a_known_sequence(run: Callable[[], None], peak: int, allocations: int) -> None:
    work = observe(run)
    assert (work.peak_live_bytes, work.allocations) == (peak, allocations)


def test_what_existed_before_is_neither_added_nor_subtracted() -> None:
    held = [torch.ones(1000)]
    parameter = torch.ones(1000)

    def run() -> None:
        parameter.add_(1)
        parameter.view(10, 100).t().mul_(2)
        held.clear()
        torch.ones(10)

    assert observe(run).peak_live_bytes == floats(10)


def test_what_only_autograd_holds_is_live() -> None:
    weight = torch.ones(100, requires_grad=True)

    def run() -> None:
        loss = weight.exp().exp().sum()  # no name holds either result, backward needs both
        torch.autograd.backward(loss)
        weight.grad = None

    results, loss_and_its_gradient, first_gradient = 100 + 100, 1 + 1, 100  # the second finds one result freed
    assert observe(run).peak_live_bytes == floats(results + loss_and_its_gradient + first_gradient)


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_composite_operators_are_taken_apart_in_every_mode(context: Callable[[], torch.no_grad]) -> None:
    layer = nn.Linear(WIDTH, 3)

    def run() -> None:
        with context():
            layer(torch.ones(2, ROWS, WIDTH))

    work = observe(run)
    assert work.flops == 2 * 2 * ROWS * WIDTH * 3
    assert "aten::addmm" in work.operators
    assert "aten::linear" not in work.operators


def test_the_time_of_operators_is_shared_out_among_them() -> None:
    layer = nn.Linear(WIDTH, 3)

    def run() -> None:
        with torch.inference_mode():  # linear is taken apart, and has no time of its own
            layer(torch.ones(2, ROWS, WIDTH))

    work = observe(run)
    assert {one.name: one.calls for one in work.longest} == work.operators
    assert sum(one.share for one in work.longest) == pytest.approx(1, abs=0.001)
    spent = Counter({f"aten::{number}": number for number in range(100)})
    assert longest(spent, dict.fromkeys(spent, 7), most=2) == (
        OperatorShare("aten::99", 7, 0.02),
        OperatorShare("aten::98", 7, 0.0198),
    )
    assert longest(Counter(), {}) == ()


def test_flops_of_attention_count_both_products() -> None:
    query = torch.ones(2, 3, ROWS, WIDTH)

    def run() -> None:
        with torch.no_grad():
            nn.functional.scaled_dot_product_attention(query, query, query)

    assert observe(run).flops == 2 * (2 * 2 * 3 * ROWS * ROWS * WIDTH)


def test_products_with_vectors_are_counted_too() -> None:
    def run() -> None:
        matrix, vector = torch.ones(ROWS, WIDTH), torch.ones(WIDTH)
        matrix @ vector
        vector @ vector
        torch.addmv(torch.ones(ROWS), matrix, vector)

    assert observe(run).flops == 2 * (ROWS * WIDTH) * 2 + 2 * WIDTH


def test_a_product_without_a_formula_is_named() -> None:
    def run() -> None:
        torch.fft.fft(torch.ones(8))
        torch.linalg.qr(torch.eye(3))
        torch.linalg.vector_norm(torch.ones(8))
        torch.lgamma(torch.ones(8))

    assert observe(run).uncounted == ("aten::_fft_r2c", "aten::linalg_qr")


def test_labels_of_the_profiler_are_no_operators() -> None:
    def run() -> None:
        with torch.profiler.record_function("step"):
            torch.ones(2)

    assert observe(run).operators == {"aten::ones": 1}


def saved(run: Callable[[], object], *kept: torch.Tensor) -> int:
    return saved_bytes(run, kept)


def test_saved_bytes_count_a_storage_once_and_leave_out_weights() -> None:
    weight = torch.ones(WIDTH, WIDTH, requires_grad=True)
    x = torch.ones(ROWS, WIDTH)
    assert saved(lambda: x @ weight, weight) == floats(ROWS * WIDTH)
    assert saved(lambda: x @ weight) == floats(ROWS * WIDTH)  # x alone needs no gradient: the weight is not saved
    assert saved(lambda: (x @ weight) + (x.t().t() @ weight), weight) == floats(ROWS * WIDTH)


def test_saved_bytes_of_known_functions() -> None:
    x = torch.ones(100, requires_grad=True)
    assert saved(partial(torch.exp, x)) == floats(100)  # its result
    assert saved(partial(torch.sin, x), x) == 0  # its input, which stays anyway
    assert saved(lambda: torch.relu(x * 2.0), x) == floats(100)
    assert saved(lambda: x + 1.0) == 0


def test_a_failing_step_leaves_no_mode_behind() -> None:
    def run() -> None:
        torch.ones(2) @ torch.ones(3)

    with pytest.raises(RuntimeError):
        observe(run)
    assert isinstance(observe(lambda: torch.ones(2)), OperatorWork)
