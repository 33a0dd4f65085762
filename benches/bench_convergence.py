"""Real trainings of each method on each task, from several seeds: what it costs to reach a quality."""

from peftbench import PeftCase, bench


@bench("convergence")
def convergence(peft_case: PeftCase) -> None:
    peft_case.measure()
