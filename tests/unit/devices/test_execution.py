import pytest
import torch

from peftbench.config.choices import EXECUTIONS
from peftbench.devices.execution import Execution
from peftbench.errors import UserError

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("text", EXECUTIONS)
def test_every_execution_runs_on_cuda(text: str) -> None:
    execution = Execution.of(text)
    execution.require(CUDA)
    assert [execution.compiles, execution.captures] == [text.startswith("compile"), text == "graph"]


def test_the_mode_of_the_compiler_follows_the_colon() -> None:
    assert Execution.of("compile") == Execution("compile")
    assert Execution.of("compile:max-autotune") == Execution("compile", "max-autotune")
    assert not Execution.of("compile").compiles_to_graphs
    assert Execution.of("compile:reduce-overhead").compiles_to_graphs


@pytest.mark.parametrize("text", ["graph", "compile:reduce-overhead"])
def test_what_needs_cuda_graphs_is_refused_elsewhere_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=rf"^--peftbench-execution={text} [^\n]*the device is cpu; give [^\n]*$"):
        Execution.of(text).require(CPU)


def test_the_rest_runs_on_a_cpu() -> None:
    for text in ("eager", "compile", "compile:max-autotune"):
        Execution.of(text).require(CPU)
    with pytest.raises(UserError, match="unknown execution 'graphs': did you mean 'graph'"):
        Execution.of("graphs")
