"""One training step of each method on each task: forward with loss, backward, optimizer."""

from peftbench import PeftCase, bench


@bench("train_step")
def train_step(peft_case: PeftCase) -> None:
    peft_case.measure()
