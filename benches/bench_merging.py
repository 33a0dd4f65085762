"""Real trainings of an adapter for each task, merged into one: bytes that are stored, quality that is left."""

from peftbench import PeftCase, bench


@bench("merging")
def merging(peft_case: PeftCase) -> None:
    peft_case.measure()
