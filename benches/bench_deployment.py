"""N tasks to serve, in every way: full models, a multi-task model, adapters that are switched, mixed or merged."""

from peftbench import PeftCase, bench


@bench("deployment")
def deployment(peft_case: PeftCase) -> None:
    peft_case.measure()
