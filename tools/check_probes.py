"""Checks the probes of a GPU on work whose answer is known, and what the sampler costs. Needs a GPU.

    python tools/check_probes.py [--device cuda:0] [--json FILE]

* Products of matrices back to back are busy without a gap, so that their busy time is their time by events.
* Steps before the first profile of the process are compared with steps after it: CUPTI stays loaded.
* Steps with a sampler beside them are compared with steps without, in turn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch

from peftbench.devices.device import device_named
from peftbench.errors import UserError
from peftbench.measure.busy.profile import busy_round
from peftbench.measure.busy.profiling import profile_rounds
from peftbench.measure.energy.nvml import Nvml
from peftbench.measure.energy.sampler import Sampler, nvml_sample
from peftbench.measure.time.clock import CudaClock
from peftbench.measure.trial import Mark, Trial

WIDTH, PRODUCTS, PAIRS, WINDOW_S = 4096, 50, 8, 1.0


def products(device: torch.device) -> Trial:
    """Return a trial of products without a gap between them."""
    layer = torch.nn.Linear(1, 1)
    left, right = (torch.randn(WIDTH, WIDTH, device=device) for _ in range(2))
    result = torch.empty(WIDTH, WIDTH, device=device)

    def run(number: int, mark: Mark) -> None:
        del number
        for _ in range(PRODUCTS):
            torch.mm(left, right, out=result)
        mark()

    return Trial(layer, run)


def busy_over_events(device: torch.device) -> float:
    """Return the busy time of products over their time by events."""
    trial, clock = products(device), CudaClock(device)
    timings = [clock.time(partial(trial.run, number)) for number in range(6)][1:]
    trace = profile_rounds(trial, device, phases=())
    busy_s = median(busy_round(intervals, ()).busy_s for intervals in trace.rounds)
    return busy_s / median(timing.device_s or timing.wall_s for timing in timings)


def steps_in(trial: Trial, device: torch.device, seconds: float) -> float:
    """Return the time of a step over so many seconds."""
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < seconds:
        trial.run(count, lambda: None)
        torch.cuda.synchronize(device)
        count += 1
    return (time.perf_counter() - start) / count


def small_step(device: torch.device) -> Trial:
    """Return a step of many small kernels, whose time is the host's: what a thread beside it slows first."""
    layer = torch.nn.TransformerEncoderLayer(256, 4, dropout=0.0, batch_first=True, device=device)
    inputs = torch.randn(8, 64, 256, device=device)

    def run(number: int, mark: Mark) -> None:
        del number, mark
        layer(inputs).sum().backward()
        layer.zero_grad(set_to_none=True)

    return Trial(layer, run)


def sampler_cost(device: torch.device, nvml: Nvml, rate_hz: float) -> float:
    """Return how much longer a step takes beside a sampler, as a share: the median over pairs of windows."""
    trial = small_step(device)
    steps_in(trial, device, WINDOW_S)
    costs = []
    for pair in range(PAIRS):
        taken: dict[bool, float] = {}
        for sampled in (False, True) if pair % 2 else (True, False):
            if sampled:
                with Sampler(partial(nvml_sample, nvml), rate_hz):
                    taken[sampled] = steps_in(trial, device, WINDOW_S)
            else:
                taken[sampled] = steps_in(trial, device, WINDOW_S)
        costs.append(taken[True] / taken[False] - 1)
    return median(costs)


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    try:
        device = device_named(options.device)
    except UserError as error:
        sys.exit(f"check_probes: {error}")
    found: dict[str, float] = {}
    failed = False
    for numbers in (partial(profiled, device), partial(sampled, device, options.rate)):
        try:
            found |= numbers()
        except Exception as error:  # noqa: BLE001 - what fails takes nothing from the other
            print(f"{type(error).__name__}: {error}")
            failed = True
        print(json.dumps(found, indent=1))
        if options.json:
            options.json.write_text(json.dumps(found))
    sys.exit(failed)


def profiled(device: torch.device) -> dict[str, float]:
    """Return how busy time agrees with events, and what the first profile of the process leaves in later steps."""
    step = small_step(device)
    steps_in(step, device, WINDOW_S)
    before_s = min(steps_in(step, device, WINDOW_S) for _ in range(3))
    agreement = busy_over_events(device)
    after_s = min(steps_in(step, device, WINDOW_S) for _ in range(3))
    return {"busy_over_events": agreement, "after_profile": after_s / before_s - 1}


def sampled(device: torch.device, rate_hz: float) -> dict[str, float]:
    """Return the time of a sample, and what a sampler costs a step."""
    with Nvml.of(device) as nvml:
        start = time.perf_counter()
        for number in range(20):
            nvml_sample(nvml, number)
        sample_s = (time.perf_counter() - start) / 20
        return {"sample_s": sample_s, "sampler_cost": sampler_cost(device, nvml, rate_hz)}


if __name__ == "__main__":
    main()
