"""One inference of each method on each task, with the adapter merged into the weights."""

from peftbench import PeftCase, bench


@bench("merged_inference")
def merged_inference(peft_case: PeftCase) -> None:
    peft_case.measure()
