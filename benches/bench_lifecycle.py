"""An adapter's life: attached, saved, loaded, switched, merged and unmerged."""

from peftbench import PeftCase, bench


@bench("attach")
def attach(peft_case: PeftCase) -> None:
    peft_case.measure()


@bench("save")
def save(peft_case: PeftCase) -> None:
    peft_case.measure()


@bench("load")
def load(peft_case: PeftCase) -> None:
    peft_case.measure()


@bench("switch")
def switch(peft_case: PeftCase) -> None:
    peft_case.measure()


@bench("merge")
def merge(peft_case: PeftCase) -> None:
    peft_case.measure()


@bench("unmerge")
def unmerge(peft_case: PeftCase) -> None:
    peft_case.measure()
