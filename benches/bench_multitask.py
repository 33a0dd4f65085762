"""Real trainings of one encoder for all tasks, against one model or adapter a task; and of one more task."""

from peftbench import PeftCase, bench


@bench("multitask")
def multitask(peft_case: PeftCase) -> None:
    peft_case.measure()


@bench("convergence")
def separate(peft_case: PeftCase) -> None:
    peft_case.measure()


@bench("adding")
def adding(peft_case: PeftCase) -> None:
    peft_case.measure()
