"""One inference of each method on each task, with the adapter merged into the weights."""

from typing import TYPE_CHECKING

from peftbench import bench

if TYPE_CHECKING:
    from peftbench.plugin.fixture import PeftCase


@bench("merged_inference")
def merged_inference(peft_case: "PeftCase") -> None:
    peft_case.measure()
