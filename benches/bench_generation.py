"""Text that is generated: prompts read, one token with a cache, N tokens; adapter active, merged, and disabled."""

from peftbench import PeftCase, bench


@bench("prefill")
def prefill(peft_case: PeftCase) -> None:
    peft_case.measure()


@bench("decode")
def decode(peft_case: PeftCase) -> None:
    peft_case.measure()


@bench("generate")
def generate(peft_case: PeftCase) -> None:
    peft_case.measure()
