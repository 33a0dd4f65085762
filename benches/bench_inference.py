"""One inference of each method on each task: the adapter active, not merged."""

from peftbench import PeftCase, bench


@bench("inference")
def inference(peft_case: PeftCase) -> None:
    peft_case.measure()
