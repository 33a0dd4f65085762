"""Compares the time of a case with that of a plain loop, alternated in one process on one model.

Prints the ratio of the two times.

    python tools/check_bias.py [--model tiny] [--device cpu] [--rounds 200] [--json FILE]

The plain loop is written by hand: forward, backward, step, zero_grad, and two readings of the clock, with a
synchronisation before each on CUDA. The aim is a ratio within 2 % of 1 on a CPU, 1 % on CUDA.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tools.by_hand import alternated, by_hand

from peftbench.config.settings import Settings
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.time.clock import clock_for
from peftbench.workloads.backend import Backend
from peftbench.workloads.step import without_labels

if TYPE_CHECKING:
    from peftbench.measure.time.clock import Timing
    from peftbench.measure.time.rounds import TimedRound
    from peftbench.measure.trial import Trial
    from peftbench.workloads.subject import Subject

CASES = (("train_step", "full"), ("train_step", "lora"), ("inference", "full"), ("inference", "lora"))


def plain_loop(trial: Trial, subject: Subject, device: torch.device) -> TimedRound:
    """Return a hand-written round on the same model, optimizer and batches."""
    model, optimizer, batches = trial.model, trial.optimizer, subject.batches
    inputs = [without_labels(batch) for batch in batches]

    def train(number: int) -> None:
        assert optimizer is not None  # noqa: S101 - for the type checker
        loss = model(**batches[number % len(batches)]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def infer(number: int) -> None:
        with torch.inference_mode():
            model(**inputs[number % len(inputs)])

    return by_hand(infer if optimizer is None else train, device)


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write ratio and interval of each case to this file")
    options = parser.parse_args()
    settings = Settings(model=options.model, device=options.device, dtype="float32")  # as the plain loop
    torch.set_num_threads(settings.threads)
    catalogue = Catalogue.load()
    backend = Backend.open(settings, catalogue, [catalogue.task("nli")])
    group = backend.group("nli", options.batch_size)
    clock = clock_for(backend.device)
    found = []
    for workload_name, method in CASES:
        subject = group.subject(parse_method(method))
        trial = catalogue.workload(workload_name).trial(subject)

        def ours(number: int, trial: Trial = trial) -> Timing:
            return clock.time(partial(trial.run, number))

        plain = plain_loop(trial, subject, backend.device)
        ratio = alternated(ours, plain, rounds=options.rounds)["ratio"]
        found.append(
            {"workload": workload_name, "method": method, "ratio": ratio.value, "low": ratio.low, "high": ratio.high}
        )
        print(f"{workload_name:10} {method:5} ours / plain {ratio.value:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]")
        if options.json:  # after each case, so that a run that is stopped leaves something
            options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
