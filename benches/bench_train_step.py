"""One training step of each method on each task: forward with loss, backward, optimizer."""

from typing import TYPE_CHECKING

from peftbench import bench

if TYPE_CHECKING:
    from peftbench.plugin.fixture import PeftCase


@bench("train_step")
def train_step(peft_case: "PeftCase") -> None:
    peft_case.measure()
