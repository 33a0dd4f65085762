"""N tasks to serve, in every way: full models, a multi-task model, adapters that are switched, mixed or merged."""

from typing import TYPE_CHECKING

from peftbench import bench

if TYPE_CHECKING:
    from peftbench.plugin.fixture import PeftCase


@bench("deployment")
def deployment(peft_case: "PeftCase") -> None:
    peft_case.measure()
