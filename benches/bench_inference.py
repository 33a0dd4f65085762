"""One inference of each method on each task: the adapter active, not merged."""

from typing import TYPE_CHECKING

from peftbench import bench

if TYPE_CHECKING:
    from peftbench.plugin.fixture import PeftCase


@bench("inference")
def inference(peft_case: "PeftCase") -> None:
    peft_case.measure()
