"""torch.compile, with backends that compile nothing: tracing is what is tested, and what becomes of errors."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor.exc import InductorError, InvalidCxxCompiler
from torch._inductor.runtime.cache_dir_utils import cache_dir

from peftbench.devices.compiling import compiled, compiling, eager, faults, from_scratch, why_not
from peftbench.errors import UnsupportedError

Backend = Callable[..., Callable[..., Any]]


class Scale(torch.nn.Module):
    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class Broken(torch.nn.Module):
    """Cannot be one graph."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Stands for the compiler: keeps the graphs it is given, and runs them as they are."""
    seen: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
        del inputs
        seen.append(graph)
        return graph.forward

    use(backend, monkeypatch)
    with compiling():
        yield seen


def use(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))


@pytest.mark.parametrize("older", [False, True])
def test_each_model_is_compiled_once_and_apart_from_others_of_its_class(
    graphs: list[Any], monkeypatch: pytest.MonkeyPatch, *, older: bool
) -> None:
    if older:
        monkeypatch.setattr("peftbench.devices.compiling._keeps_models_apart", lambda: False)
    models = [compiled(Scale()) for _ in range(12)]  # more than torch's limit of recompilations
    for model in (*models, *models):
        assert model(torch.ones(2)).tolist() == [2, 2]
    assert len(graphs) == len(models)


def test_nothing_is_compiled_while_it_is_to_run_as_written(graphs: list[Any]) -> None:
    model = compiled(Scale())
    with eager():
        assert model(torch.ones(2)).tolist() == [2, 2]
    assert graphs == []
    model(torch.ones(2))
    assert len(graphs) == 1


def test_a_fallback_to_eager_code_is_an_error(graphs: list[Any]) -> None:
    module = Scale()
    model = compiled(module)

    def recompile() -> None:
        for factor in range(300):
            module.factor = factor
            model(torch.ones(2))

    with pytest.raises(UnsupportedError, match=r"^torch.compile: .*recompile limit.*$"), faults():
        recompile()
    assert 1 < len(graphs) < 300


def test_what_was_compiled_is_told(graphs: list[Any]) -> None:
    with from_scratch() as compilation:
        compiled(Scale())(torch.ones(2))
        whole = compilation()
    assert (whole.graphs, whole.breaks) == (1, ())
    assert whole.warnings == ("counters and peak_bytes describe the eager model",)
    with from_scratch() as compilation:
        compiled(Broken())(torch.ones(2))
        broken = compilation()
    assert broken.graphs == len(graphs) - 1 == 2
    assert broken.warnings[1] == "compiled in 2 graphs with eager code between them: Data-dependent branching"


def test_torchs_cache_on_disk_is_another_one_and_gone_afterwards(
    graphs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del graphs
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with from_scratch():
        cache = Path(cache_dir())
        assert cache != tmp_path
        assert list(cache.iterdir()) == []
    assert not cache.exists()
    assert cache_dir() == str(tmp_path)


def test_a_compiler_that_fails_is_one_line_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(*_: object) -> Callable[..., Any]:
        raise ValueError("no such operator\nand much more")

    use(backend, monkeypatch)
    with pytest.raises(UnsupportedError, match=r"^torch.compile: ValueError: no such operator$"), faults():
        compiled(Scale())(torch.ones(2))


def test_a_machine_without_a_compiler_is_told_what_to_do() -> None:
    line = why_not(InductorError(InvalidCxxCompiler(), None))
    assert line.startswith("torch.compile: InvalidCxxCompiler: No working C++ compiler found")
    assert line.endswith("install g++, or set CXX to one")


@pytest.mark.parametrize("error", [ValueError("mine"), RuntimeError("shape"), KeyError("x")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, faults():
        raise error
    assert caught.value is error


def test_memory_that_runs_out_while_compiling_is_no_fault_of_the_compiler() -> None:
    error = InductorError(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), None)
    with pytest.raises(InductorError), faults():
        raise error
