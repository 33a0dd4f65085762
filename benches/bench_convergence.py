"""Real trainings of each method on each task, from several seeds: what it costs to reach a quality."""

from typing import TYPE_CHECKING

from peftbench import bench

if TYPE_CHECKING:
    from peftbench.plugin.fixture import PeftCase


@bench("convergence")
def convergence(peft_case: "PeftCase") -> None:
    peft_case.measure()
