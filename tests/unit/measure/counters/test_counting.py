from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest
import torch
from tests.unit.measure.counters.toy import CLASSES, HIDDEN, ROWS, WIDTH, counted, make_step, summary
from torch import nn

from peftbench.measure.counters.counting import Counters, count
from peftbench.measure.counters.parameters import count_parameters

ROOT = Path(__file__).parents[4]
CLOCK_ONLY = {"python_calls", "bytecodes"}


@pytest.fixture(scope="module")
def plain() -> Counters:
    return counted()


def moved(before: Counters, after: Counters) -> dict[str, float]:
    """Return by how much each counter moved, for those that did."""
    a, b = before.metrics(), after.metrics()
    changes = {name: (b[name].value or 0) - (a[name].value or 0) for name in a}
    return {name: change for name, change in changes.items() if change}


def test_metrics_are_exact_and_better_when_lower(plain: Counters) -> None:
    metrics = plain.metrics()
    assert {m.noise for m in metrics.values()} == {"exact"}
    assert {m.better for m in metrics.values()} == {"lower"}
    units = {"flops": "FLOP", "saved_bytes": "B", "peak_live_bytes": "B"}
    assert {name: m.unit for name, m in metrics.items()} == {name: units.get(name, "1") for name in metrics}


def test_flops_of_a_step_are_those_of_its_matrix_products(plain: Counters) -> None:
    forward = 2 * ROWS * (WIDTH * HIDDEN + HIDDEN * CLASSES)
    weight_of_the_head = 2 * ROWS * HIDDEN * CLASSES  # no gradient flows below it: the base is frozen
    assert plain.operators.flops == forward + weight_of_the_head
    assert plain.operators.uncounted == ()


def test_saved_bytes_are_the_activations_that_backward_needs(plain: Counters) -> None:
    head_input, log_probabilities, total_weight, labels = ROWS * HIDDEN * 4, ROWS * CLASSES * 4, 4, ROWS * 8
    assert plain.saved_bytes == head_input + log_probabilities + total_weight + labels


def test_unfreezing_the_base_costs_flops_memory_and_parameters(plain: Counters) -> None:
    changes = moved(plain, counted(unfrozen=True))
    assert changes["trainable_body"] == WIDTH * HIDDEN + HIDDEN
    assert changes["flops"] == 2 * ROWS * HIDDEN * (CLASSES + WIDTH)
    assert {"saved_bytes", "operator_calls", "allocations"} <= changes.keys()
    assert "total_parameters" not in changes


def test_a_clone_is_one_call_and_one_allocation(plain: Counters) -> None:
    cloned = counted(torch.Tensor.clone)
    changes = moved(plain, cloned)
    assert {name: change for name, change in changes.items() if name not in CLOCK_ONLY} == {
        "operator_calls": 1,
        "allocations": 1,
    }
    assert cloned.operators.operators["aten::clone"] == plain.operators.operators.get("aten::clone", 0) + 1
    assert cloned.operators.operator_hash != plain.operators.operator_hash


def test_an_extra_matrix_product_moves_the_flops(plain: Counters) -> None:
    changes = moved(plain, counted(lambda hidden: hidden.t() @ hidden))
    assert changes["flops"] == 2 * HIDDEN * HIDDEN * ROWS


def test_a_python_loop_moves_bytecodes_alone(plain: Counters) -> None:
    changes = moved(plain, counted(lambda _: [i for i in range(3000)]))  # noqa: C416 (the loop is what is counted)
    assert changes.keys() <= CLOCK_ONLY
    assert changes["bytecodes"] > 3000


def test_a_sleep_moves_next_to_nothing(plain: Counters) -> None:
    changes = moved(plain, counted(lambda _: time.sleep(0.001)))
    assert changes.keys() <= CLOCK_ONLY
    assert 0 < changes["bytecodes"] < 20


def test_a_kept_activation_raises_the_peak(plain: Counters) -> None:
    kept: list[torch.Tensor] = []

    def keep(hidden: torch.Tensor) -> None:
        kept[:] = [torch.cat([hidden] * 64)]

    changes = moved(plain, counted(keep))
    assert changes["peak_live_bytes"] > 0
    assert changes["allocations"] == 1


def test_the_order_of_calls_is_in_the_hash() -> None:
    one = counted(lambda hidden: (hidden.sin(), hidden.cos()))
    other = counted(lambda hidden: (hidden.cos(), hidden.sin()))
    assert one.operators.operators == other.operators.operators
    assert one.operators.operator_hash != other.operators.operator_hash


def in_another_process(*, hash_seed: int, threads: int) -> object:
    result = subprocess.run(
        [sys.executable, "-m", "tests.unit.measure.counters.toy", str(threads)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(result.stdout)


def test_counters_are_equal_in_another_process_with_other_hashes_and_threads() -> None:
    # Not against this process: once torch.compile was used, the optimizer's step goes through it for good.
    assert in_another_process(hash_seed=1, threads=1) == in_another_process(hash_seed=123, threads=2)


def test_counters_are_equal_in_another_model(plain: Counters) -> None:
    assert summary(counted()) == summary(plain)


def test_reset_and_seed_make_rounds_that_differ_alike() -> None:
    class Deepening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(WIDTH, CLASSES)
            self.depth = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.depth += 1
            for _ in range(self.depth + int(torch.randint(9, ())) + random.randrange(9)):
                x = x.sin()
            return torch.as_tensor(self.head(x))

        def reset(self) -> None:
            self.depth = 0

    model = Deepening()
    step = make_step(model, model.parameters())
    heads = frozenset({"head"})
    first, second = (count(step, model, heads=heads, seed=3, reset=model.reset) for _ in range(2))
    assert summary(first) == summary(second)


def test_counting_leaves_generators_and_the_collector_as_they_were() -> None:
    torch.manual_seed(5)
    random.seed(5)
    expected = torch.random.get_rng_state(), random.getstate()
    model = nn.Linear(2, 2)
    torch.random.set_rng_state(expected[0])
    count(lambda: model(torch.rand(1, 2)), model, heads=frozenset())
    assert torch.equal(torch.random.get_rng_state(), expected[0])
    assert random.getstate() == expected[1]
    assert gc.isenabled()


def test_parameters_are_split_and_listed_by_module() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.ModuleList(nn.Linear(2, 3) for _ in range(4))
            self.shared = nn.Linear(2, 3, bias=False)
            self.shared.weight = cast("nn.Linear", self.body[0]).weight
            self.classifier = nn.Linear(3, 2)
            self.body[3].requires_grad_(requires_grad=False)

    parameters = count_parameters(Model(), frozenset({"classifier"}))
    assert (parameters.trainable_body, parameters.trainable_head, parameters.total) == (3 * 9, 8, 4 * 9 + 8)
    assert parameters.modules == {"body.*": 27, "classifier": 8}
