from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from peftbench.config.settings import Settings
from peftbench.errors import UnsupportedError
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.time.clock import CpuClock
from peftbench.records.ids import Case
from peftbench.studies.deployment import serving, under_load
from peftbench.studies.deployment.requests import Request
from peftbench.studies.deployment.servers import OnAnswer, Server
from peftbench.studies.deployment.shared_servers import Mixed
from peftbench.studies.deployment.study import Deployment
from peftbench.workloads.backend import Backend
from peftbench.workloads.base import Workbench

LOT = [Request(task, example) for task, example in ((0, 3), (2, 1), (1, 5), (2, 0), (0, 2))]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load()


@pytest.fixture(scope="module")
def backend(catalogue: Catalogue) -> Backend:
    settings = Settings(model="tiny", seq_len=16, requests=12)
    return Backend.open(settings, catalogue, [catalogue.task("nli")])


@pytest.fixture(scope="module")
def study(catalogue: Catalogue) -> Deployment:
    found = catalogue.workload("deployment")
    assert isinstance(found, Deployment)
    return found


def served(method: str, way: str, n: int = 3, bs: int = 5) -> Case:
    return Case(parse_method(method), "nli", bs).with_variant(by=way, n=n)


@pytest.fixture
def loaded(backend: Backend, study: Deployment, tmp_path: Path) -> Callable[..., Server]:
    """Makes a server with three tasks."""

    def load(method: str, way: str, backend: Backend = backend) -> Server:
        case, folder = served(method, way), tmp_path / way
        folder.mkdir()
        server = serving.SERVERS[way](serving._parts(case, backend, study.method_of(case, backend), folder))
        for number in range(3):
            server.load(number)
        return server

    return load


def answers(server: Server, window: Sequence[Request]) -> list[torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        server.answer(window, found.__setitem__)
    return [found[place] for place in range(len(window))]


@pytest.mark.parametrize(
    ("method", "way"),
    [
        ("full", "models"),
        ("mtl", "multitask"),
        ("lora", "switch"),
        ("lora", "grouped"),
        ("lora", "mixed"),
        ("lora", "merged"),
        ("pfeiffer", "switch"),
        ("houlsby", "grouped"),
        ("bitfit", "switch"),
        ("adapterdrop", "dropped"),
    ],
)
def test_every_request_is_answered_by_the_model_of_its_task(
    loaded: Callable[[str, str], Server], method: str, way: str
) -> None:
    server = loaded(method, way)
    for _ in range(2):  # the second lot begins where the first one left the adapters
        found = answers(server, LOT)
        for request, answer in zip(LOT, found, strict=True):
            with torch.inference_mode():
                alone = server.parts.load(request.task)(**server.parts.batch([request.example])).logits[0]
            torch.testing.assert_close(answer, alone, atol=2e-6, rtol=1e-4)
    different = answers(server, [Request(task, 0) for task in range(3)])
    alike = way in serving.ALIKE
    assert torch.allclose(different[0], different[1], atol=1e-6) == alike


@pytest.mark.parametrize(
    ("method", "way"),
    [
        ("full", "models"),
        ("mtl", "multitask"),
        ("lora", "mixed"),
        ("pfeiffer", "switch"),
        ("pfeiffer", "grouped"),
        ("adapterfusion", "fusion"),
    ],
)
def test_autocast_is_entered_for_each_pass(
    loaded: Callable[..., Server], catalogue: Catalogue, method: str, way: str
) -> None:
    settings = Settings(model="tiny", seq_len=16, dtype="bfloat16", autocast=True)
    half = Backend.open(settings, catalogue, [catalogue.task("nli")])
    server = loaded(method, way, half)
    if isinstance(server, Mixed):
        server.require_equal(LOT)
    for request, answer in zip(LOT, answers(server, LOT), strict=True):
        model, batch = server.parts.load(request.task), server.parts.batch([request.example])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            alone = model(**batch).logits[0]
        assert torch.equal(answer, answer.bfloat16().float())
        torch.testing.assert_close(answer, alone.float(), atol=2e-3, rtol=1e-2)


@pytest.mark.parametrize("method", ["ia3", "dora"])
def test_a_tuner_that_ignores_which_adapter_a_row_is_for_is_not_timed(
    loaded: Callable[[str, str], Server], method: str
) -> None:
    server = loaded(method, "mixed")
    assert isinstance(server, Mixed)
    with pytest.raises(UnsupportedError, match=r"ignores adapter_names|PEFT cannot mix adapters of dora"):
        server.require_equal(LOT)


def test_bytes_are_those_of_what_is_held_and_shared_storage_counts_once(
    loaded: Callable[[str, str], Server], backend: Backend
) -> None:
    model = backend.new_model(backend.definitions.task("nli"), 0)
    plain = sum(p.numel() * p.element_size() for p in (*model.parameters(), *model.buffers()))
    hidden = backend.config.hidden_size
    head = 4 * (hidden * 3 + 3)
    assert loaded("full", "models").resident_bytes() == 3 * plain
    assert loaded("mtl", "multitask").resident_bytes() == plain + 2 * head
    small = hidden // 16
    adapter = 4 * 2 * (2 * hidden * small + small + hidden)
    assert loaded("pfeiffer", "switch").resident_bytes() == plain + adapter + 2 * (adapter + head)


class Slow(Server):
    """Answers one request in two ticks of a clock."""

    def __init__(self) -> None:
        self.ticks: Iterator[int] = count()

    def load(self, number: int) -> None:
        raise NotImplementedError

    def tensors(self) -> Iterator[torch.Tensor]:
        raise NotImplementedError

    def answer(self, window: Sequence[Request], on_answer: OnAnswer) -> None:
        for place in range(len(window)):
            next(self.ticks)
            on_answer(place, torch.zeros(1))


def test_a_latency_reaches_from_the_arrival_of_the_lot_to_the_answer() -> None:
    server = Slow()
    lots = [[Request(0, 0)] * 3] * 2
    latencies, total = serving.answer(server, lots, torch.device("cpu"), now=lambda: float(next(server.ticks)))
    assert latencies == [2.0, 4.0, 6.0, 2.0, 4.0, 6.0]
    assert total == 15.0


def test_a_case_says_what_serving_takes(backend: Backend, study: Deployment) -> None:
    found = study.conduct(served("lora", "switch", n=4), Workbench(backend, CpuClock(), ()))
    value: dict[str, Any] = {name: metric.value for name, metric in found.metrics.items()}
    for mix in ("uniform", "skewed"):
        assert 0 < value[f"{mix}_p50_s"] <= value[f"{mix}_p95_s"] <= value[f"{mix}_p99_s"]
        assert value[f"{mix}_requests_per_s"] > 0
    assert value["load_s"] > 0
    assert value["switch_s"] > 0
    assert value["load_slope_s"] is not None
    hidden = backend.config.hidden_size
    lora = 4 * (2 * 2 * 2 * 8 * hidden)
    assert value["bytes_per_task"] == pytest.approx(lora + 4 * (hidden * 3 + 3), rel=0.01)
    one = study.conduct(served("lora", "switch", n=1), Workbench(backend, CpuClock(), ()))
    assert one.metrics["switch_s"].value is None
    assert value["stored_bytes"] - (one.metrics["stored_bytes"].value or 0) > 3 * lora


def test_loads_are_offered_to_the_server_that_was_timed(
    backend: Backend, study: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_load, "LEAST_S", 0.01)
    asked = replace(backend, settings=replace(backend.settings, offered_load=("200%", "50%")))
    found = study.conduct(served("lora", "grouped"), Workbench(asked, CpuClock(), ()))
    assert found.loads is not None
    capacity = found.metrics["uniform_requests_per_s"].value or 0
    assert [point.offered_per_s / capacity for point in found.loads] == pytest.approx([0.5, 2.0])
    for point in found.loads:
        assert point.requests == max(20 * 5, math.ceil(0.01 * capacity))  # twelve requests are too few to tell anything
        assert point.p50_s is not None
        assert point.achieved_per_s > 0
        assert 1 <= point.lot_size <= 5
    assert found.metrics["starvation_per_s"].value in {None, *(point.offered_per_s for point in found.loads)}
    rehearsed = study.conduct(served("lora", "grouped"), Workbench(asked.rehearsing(), CpuClock(), ()))
    assert rehearsed.loads is None
    assert "starvation_per_s" not in rehearsed.metrics


@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_adapters_that_change_the_frozen_weights_are_not_served_on_one_backbone(
    backend: Backend, study: Deployment, method: str
) -> None:
    for way in ("switch", "grouped", "mixed"):
        assert "would spoil the first" in study.unsupported_case(served(method, way, n=2), backend)
        assert not study.unsupported_case(served(method, way, n=1), backend)
        assert not study.unsupported_case(served("lora", way, n=2), backend)
    assert not study.unsupported_case(served(method, "merged", n=2), backend)


def test_a_fusion_is_stored_with_the_adapters_that_it_mixes(backend: Backend, study: Deployment) -> None:
    def stored(n: int) -> float:
        return (
            study.conduct(served("adapterfusion", "fusion", n), Workbench(backend, CpuClock(), ()))
            .metrics["stored_bytes"]
            .value
            or 0
        )

    hidden = backend.config.hidden_size
    small = hidden // 16
    adapter = 4 * backend.config.num_hidden_layers * (2 * hidden * small + small + hidden)
    assert stored(4) - stored(2) == pytest.approx(2 * adapter, abs=100)  # the file's header says how many there are


def test_more_models_than_memory_holds_are_refused_before_any_is_loaded(
    backend: Backend, study: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        available = 3_000_000

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    study.conduct(served("full", "models", n=1), Workbench(backend, CpuClock(), ()))
    with pytest.raises(MemoryError, match=r"3 copies of the model: tried to allocate 0\.00 GiB"):
        study.conduct(served("full", "models", n=3), Workbench(backend, CpuClock(), ()))


def test_each_method_is_served_in_the_ways_that_it_can(study: Deployment, backend: Backend) -> None:
    methods = ("full", "mtl", "lora", "pfeiffer", "adapterdrop", "adapterfusion")
    matrix = [Case(parse_method(method), "nli", size) for size in (1, 8) for method in methods]
    cases = study.expand(matrix, Settings(serve=(1, 2)))
    assert len(cases) == len(set(cases))
    possible = [case for case in cases if not study.unsupported_case(case, backend)]
    found = {
        (str(case.method), str(dict(case.variant)["by"])) for case in possible if case.batch_size == 8
    }  # at batch size 1 there is nothing to group or to mix
    assert found == {
        ("full", "models"),
        ("mtl", "multitask"),
        ("lora", "switch"),
        ("lora", "grouped"),
        ("lora", "mixed"),
        ("lora", "merged"),
        ("pfeiffer", "switch"),
        ("pfeiffer", "grouped"),
        ("pfeiffer", "mixed"),
        ("adapterdrop", "switch"),
        ("adapterdrop", "grouped"),
        ("adapterdrop", "dropped"),
        ("adapterfusion", "fusion"),
    }
    alone = {str(dict(case.variant)["by"]) for case in possible if case.batch_size == 1}
    assert alone == {"models", "multitask", "switch", "merged", "dropped", "fusion"}
