"""Builds a server for one case, loads it task by task, and times its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Final

import psutil
import torch

from peftbench.data import batching
from peftbench.data import sources as data
from peftbench.measure.time.rounds import undisturbed
from peftbench.measure.trial import BATCHES
from peftbench.methods.base import Application, head_names, is_head
from peftbench.records.record import Metric
from peftbench.records.scratch import scratch_folder
from peftbench.studies.base import StudyFindings
from peftbench.studies.deployment.requests import MIXES, Request, latency_metrics, requests, slope, windows
from peftbench.studies.deployment.servers import ModelPerTaskServer, Server, ServingParts, SharedModelServer
from peftbench.studies.deployment.shared_servers import Mixed, MultiTaskServer, Switching
from peftbench.studies.deployment.under_load import under_loads
from peftbench.studies.training.evaluate import collator
from peftbench.studies.untrained import disturbed

if TYPE_CHECKING:
    from peftbench.methods.base import Method
    from peftbench.records.ids import Case
    from peftbench.tasks.base import Batch, Task
    from peftbench.workloads.backend import Backend
    from peftbench.workloads.base import Workbench

EXAMPLES: Final = 64
"""Number of different examples in requests."""
WARM_UP: Final = 8
"""Number of lots that are answered before any is timed."""
SWITCHES: Final = 10
"""Number of switches after each task that is loaded; their median time is reported."""

SERVERS: Final[Mapping[object, Callable[[ServingParts], Server]]] = {
    "models": partial(ModelPerTaskServer, merged=False),
    "merged": partial(ModelPerTaskServer, merged=True),
    "multitask": MultiTaskServer,
    "switch": partial(Switching, grouped=False),
    "dropped": partial(Switching, grouped=False),
    "grouped": partial(Switching, grouped=True),
    "mixed": Mixed,
    "fusion": SharedModelServer,
}
"""Way to serve -> function that makes its server."""
ALIKE: Final = frozenset({"models", "multitask", "fusion"})
"""Ways in which one checkpoint serves all tasks, since neither times nor bytes depend on the weights."""


def serve(case: Case, bench: Workbench, method: Method) -> StudyFindings:
    """Load N tasks, answer uniform and skewed requests and what the settings offer, and return the metrics.

    Raises:
        UnsupportedError: the method cannot be served in this way.
        MemoryError: the models would not fit into memory.
    """
    backend, count = bench.backend, int(case.varied("n"))
    with scratch_folder() as folder:
        parts = _parts(case, backend, method, folder)
        server = SERVERS[str(case.varied("by"))](parts)
        if isinstance(server, ModelPerTaskServer):
            _require_memory(parts, backend.device, count)
        loaded = _load(server, count)
        if isinstance(server, Mixed):
            server.require_equal([Request(number % count, number) for number in range(case.batch_size)])
        answered: dict[str, Metric] = {}
        for mix in MIXES:
            stream = requests(
                max(backend.settings.requests, case.batch_size),
                tasks=count,
                examples=EXAMPLES,
                mix=mix,
                seed=backend.settings.seed,
            )
            answered |= latency_metrics(mix, *answer(server, windows(stream, case.batch_size), backend.device))
        loads, starvation = None, dict[str, Metric]()
        if backend.settings.offered_load:
            loads, starvation = under_loads(
                server,
                backend.settings,
                answered["uniform_requests_per_s"].value or 0.0,
                tasks=count,
                examples=EXAMPLES,
                batch_size=case.batch_size,
            )
        stored = Metric(_stored_bytes(parts, str(case.varied("by")), count), "B")
    return StudyFindings({**answered, **starvation, **loaded, "stored_bytes": stored}, loads=loads)


def answer(
    server: Server,
    lots: Sequence[Sequence[Request]],
    device: torch.device,
    now: Callable[[], float] = perf_counter,
) -> tuple[list[float], float]:
    """Answer lots, and return the latency of each request and the time of all lots, in seconds.

    A latency lasts from the arrival of the lot to the request's answer on the host.

    Args:
        server: A server that has loaded all tasks.
        lots: Lots of requests. Each arrives when the one before is answered.
        device: The device. It is synchronised once, before the first timed lot.
        now: The host's clock.
    """
    latencies_s: list[float] = []
    with torch.inference_mode():
        for window in lots[:WARM_UP]:
            server.answer(window, lambda *_: None)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        with undisturbed():
            begin = now()
            for window in lots:
                arrival = now()
                server.answer(window, lambda *_, arrival=arrival: latencies_s.append(now() - arrival))
            total_s = now() - begin
    return latencies_s, total_s


def _load(server: Server, count: int) -> dict[str, Metric]:
    """Load task after task. Return times, bytes, and their slopes over the number of tasks."""
    load_s, switch_s, resident_bytes = [], [], []
    for number in range(count):
        start = perf_counter()
        server.load(number)
        load_s.append(perf_counter() - start)
        resident_bytes.append(server.resident_bytes())
        if number > 0 and server.switches:
            switch_s.append(_switch_s(server, number))
    each = slope(resident_bytes)
    return {
        "first_load_s": Metric(load_s[0], "s", noise="timed"),
        "load_s": _timed(median(load_s[1:]) if count > 1 else None),
        "load_slope_s": _timed(slope(load_s[1:])),
        "switch_s": _timed(switch_s[-1] if switch_s else None),
        "switch_slope_s": _timed(slope(switch_s)),
        "resident_bytes": Metric(resident_bytes[-1], "B"),
        "bytes_per_task": Metric(each, "B", reason="" if each is not None else "one task alone"),
    }


def _switch_s(server: Server, number: int) -> float:
    """Return the median time of a switch, to a task or back to the first one."""
    times = []
    for turn in range(SWITCHES):
        start = perf_counter()
        server.switch(0 if turn % 2 else number)
        times.append(perf_counter() - start)
    server.switch(0)
    return median(times)


def _timed(value: float | None) -> Metric:
    return Metric(value, "s", noise="timed", reason="" if value is not None else "too few tasks, or nothing to switch")


def _parts(case: Case, backend: Backend, method: Method, folder: Path) -> ServingParts:
    """Save a checkpoint for each task, with a seed of its own. For the ways in `ALIKE`, one serves all tasks."""
    way, count = str(case.varied("by")), int(case.varied("n"))
    task = data.fitted_task(backend.data, backend.definitions.task(case.task))
    fresh_model = partial(backend.fresh_model, task, backend.template(task))
    overrides = dict(case.method.overrides)
    if way == "dropped":
        overrides.setdefault("dropped_at_inference", backend.config.num_hidden_layers // 2)
    if way == "fusion":
        overrides.setdefault("adapters", count)
    batch = _batches(backend, task)
    application = Application(
        task=task,
        overrides=overrides,
        seed=backend.settings.seed,
        batches=[batch(range(start, start + BATCHES)) for start in range(0, BATCHES**2, BATCHES)],
    )
    folders = []
    for number in range(1 if way in ALIKE else count):
        path = folder / str(number)
        path.mkdir()
        seeded = replace(application, seed=application.seed + number)
        model = method.apply(fresh_model(), seeded)
        # Weights that were trained serve the first task as they are.
        method.save(model if number == 0 and method.brings_weights else disturbed(model, seeded.seed), path)
        folders.append(path)
    return ServingParts(
        method=method,
        application=application,
        fresh_model=fresh_model,
        folders=folders * (count // len(folders)),
        batch=batch,
        precision=backend.precision,
    )


def _batches(backend: Backend, task: Task) -> Callable[[Sequence[int]], Batch]:
    """Return a function that makes a batch of examples, given their numbers."""
    if backend.tokenizer is None:
        features = task.synthetic(EXAMPLES, backend.vocabulary, backend.seq_len(task), backend.settings.seed)
    else:
        rows = data.load_rows(backend.data, task, limit=EXAMPLES)
        features = batching.encode(
            backend.data, task, rows, backend.tokenizer, backend.seq_len(task), positions=backend.positions
        )
    collate = collator(task, backend.vocabulary, backend.device)
    return lambda numbers: collate([features[number % len(features)] for number in numbers])


def _stored_bytes(parts: ServingParts, way: object, count: int) -> int:
    """Return the bytes on the disk for all tasks: all models, or one backbone and the checkpoint of each task.

    A fusion also needs the adapters that it mixes. They are frozen, so its checkpoint does not hold them.
    """
    saved = sum(path.stat().st_size for path in parts.folders[0].rglob("*") if path.is_file())
    if way == "models":
        return count * saved
    if way == "fusion":
        return saved + sum(p.numel() * p.element_size() for p in parts.load(0).parameters() if not p.requires_grad)
    model = parts.fresh_model()
    heads = head_names(model)
    sizes: dict[str, int] = {name: p.numel() * p.element_size() for name, p in model.named_parameters()}
    head = sum(size for name, size in sizes.items() if is_head(name, heads))
    if way == "multitask":
        return saved + (count - 1) * head
    backbone = sum(sizes.values()) - head
    return backbone + count * saved


def _require_memory(parts: ServingParts, device: torch.device, count: int) -> None:
    """Raise MemoryError if `count` copies of the model would not fit, before the machine begins to swap."""
    needed = count * sum(p.numel() * p.element_size() for p in parts.fresh_model().parameters())
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"{count} copies of the model: tried to allocate {needed / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are free"
        )
