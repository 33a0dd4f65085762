"""Prints the time of looking for global state that a case has changed. No round includes this time."""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from peftbench.config.settings import Settings
from peftbench.matrix.catalogue import Catalogue
from peftbench.state import process, torch_state
from peftbench.state.batches import batches_facet
from peftbench.state.facet import look, put_back
from peftbench.workloads.backend import Backend

if TYPE_CHECKING:
    from collections.abc import Callable


def time_us(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call in microseconds."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return 1e6 * median(times)


def main() -> None:
    """Print the time of the look before a case, of the look after it, and of the slowest facets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=500)
    options = parser.parse_args()
    catalogue = Catalogue.load()
    settings = Settings(model=options.model, device=options.device)
    group = Backend.open(settings, catalogue, [catalogue.task("nli")]).group("nli", options.batch_size)
    batches = batches_facet(group.batches)
    facets = (*process.FACETS, *torch_state.FACETS, process.THREADS)
    seen = look((*facets, batches))
    before_us = time_us(lambda: look(facets), options.repeats)
    after_us = time_us(lambda: put_back(seen), options.repeats)
    print(
        f"before a case {before_us:.0f} us, after it {after_us:.0f} us, together {(before_us + after_us) / 1e3:.2f} ms"
    )
    costs = {facet.name: time_us(facet.read, options.repeats) for facet in (*facets, batches)}
    for name in sorted(costs, key=costs.__getitem__, reverse=True)[:6]:
        print(f"  {costs[name]:6.1f} us  {name}")


if __name__ == "__main__":
    main()
