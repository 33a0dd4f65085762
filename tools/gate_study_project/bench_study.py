"""The cases of the study."""

from peftbench import bench


@bench("train_step")
def train_step(peft_case) -> None:  # noqa: ANN001, D103
    peft_case.measure()


@bench("inference")
def inference(peft_case) -> None:  # noqa: ANN001, D103
    peft_case.measure()
