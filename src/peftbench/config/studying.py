"""The settings of studies: trainings to a quality, and serving."""

from __future__ import annotations

from dataclasses import dataclass

from peftbench.config.choices import ANSWERS, PROTOCOLS, SCHEDULES, STOPS
from peftbench.config.options import Question, flag, option
from peftbench.config.parsing import (
    MOST,
    MOST_TRAININGS,
    above_zero,
    comma_separated,
    each,
    not_negative,
    one_of,
    whole,
)


def _target(text: str) -> str:
    from peftbench.config.target import QualityTarget

    QualityTarget.read(text)
    return text


def _warm_up(text: str) -> str:
    from peftbench.config.warm_up import WarmUp

    WarmUp.read(text)
    return text


def _offered_load(text: str) -> str:
    from peftbench.config.offered_load import OfferedLoad

    OfferedLoad.read(text)
    return text


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Settings` has its own: start-up counts
class StudySettings:
    """How a model is trained to a quality, and how it is served."""

    protocol: str | None = option(
        None,
        "a named set of settings, each of which can still be given: peft-metamathqa (PEFT's comparison of methods) or "
        "adapter-efficiency (arXiv 2305.07491)",
        Question.STUDIES,
        parse=one_of(*PROTOCOLS),
        identity=True,
        added=True,
    )
    seeds: int = option(
        3,
        "number of trainings of each method, with the seeds --peftbench-seed, + 1, ...; default: 3",
        Question.STUDIES,
        parse=whole(1, MOST_TRAININGS),
        metavar="N",
    )
    learning_rates: tuple[float, ...] = option(
        (3e-5, 1e-4, 3e-4, 1e-3),
        "learning rates to try. All are tried with the first seed. Further seeds use the first rate and each method's "
        "best. Default: 3e-5,1e-4,3e-4,1e-3",
        Question.STUDIES,
        parse=each(above_zero),
        metavar="LIST",
        studies=True,
        pools=True,
    )
    epochs: float = option(
        10.0,
        "most epochs of a training; default: 10",
        Question.STUDIES,
        parse=above_zero,
        metavar="EPOCHS",
        studies=True,
    )
    steps: int | None = option(
        None,
        "steps of a training, in place of --peftbench-epochs",
        Question.STUDIES,
        parse=whole(1),
        metavar="STEPS",
        studies=True,
        added=True,
    )
    schedule: str = option(
        "linear",
        f"how the learning rate falls after the warm-up: {', '.join(SCHEDULES)}; default: linear",
        Question.STUDIES,
        parse=one_of(*SCHEDULES),
        studies=True,
        added=True,
    )
    warm_up: str = option(
        "10%",
        "steps in which the learning rate rises: a share of all (10%) or a number (2000); default: 10%",
        Question.STUDIES,
        parse=_warm_up,
        metavar="STEPS",
        studies=True,
        added=True,
    )
    weight_decay: float = option(
        0.1,
        "weight decay of AdamW; default: 0.1",
        Question.STUDIES,
        parse=not_negative,
        metavar="DECAY",
        studies=True,
        added=True,
    )
    clip: float = option(
        1.0,
        "norm to which all gradients together are clipped; 0: they are not; default: 1",
        Question.STUDIES,
        parse=not_negative,
        metavar="NORM",
        studies=True,
        added=True,
    )
    multitask_epochs: float | None = option(
        None,
        "most epochs of a training on several tasks; default: those of --peftbench-epochs",
        Question.STUDIES,
        parse=above_zero,
        metavar="EPOCHS",
        studies=True,
        added=True,
    )
    multitask_warm_up: str | None = option(
        None,
        "--peftbench-warm-up of a training on several tasks, where it is another",
        Question.STUDIES,
        parse=_warm_up,
        metavar="STEPS",
        studies=True,
        added=True,
    )
    multitask_weight_decay: float | None = option(
        None,
        "--peftbench-weight-decay of a training on several tasks, where it is another",
        Question.STUDIES,
        parse=not_negative,
        metavar="DECAY",
        studies=True,
        added=True,
    )
    stop: str = option(
        "patience",
        "what ends a training early: patience (no improvement), target (the target is reached, or no improvement), or "
        "budget (nothing); default: patience",
        Question.STUDIES,
        parse=one_of(*STOPS),
        studies=True,
    )
    patience: float = option(
        3.0,
        "epochs without improvement after which a training stops; default: 3",
        Question.STUDIES,
        parse=above_zero,
        metavar="EPOCHS",
        studies=True,
    )
    eval_every: int | None = option(
        None,
        "steps between evaluations; default: a quarter of an epoch",
        Question.STUDIES,
        parse=whole(1),
        metavar="STEPS",
        studies=True,
    )
    target: str = option(
        "97%",
        "quality to which costs are compared: a score (0.8), or a share of full fine-tuning's (97%); default: 97%",
        Question.STUDIES,
        parse=_target,
        metavar="SCORE",
        studies=True,
        pools=True,
    )
    metric: str | None = option(
        None, "score by which trainings are judged; default: the score of the task", Question.STUDIES, studies=True
    )
    answers: str = option(
        "whole",
        "what of an answer counts for --peftbench-metric=exact_match of task sft: whole, or last-number (as GSM8K is "
        "scored); default: whole",
        Question.STUDIES,
        parse=one_of(*ANSWERS),
        studies=True,
        added=True,
    )
    answer_tokens: int | None = option(
        None,
        "most tokens of an answer that is generated for exact_match; default: those of the longest expected answer",
        Question.STUDIES,
        parse=whole(1, MOST),
        metavar="TOKENS",
        studies=True,
        added=True,
    )
    train_rows: int | None = option(
        None, "most rows to train on; default: all", Question.STUDIES, parse=whole(1), metavar="N", studies=True
    )
    eval_rows: int | None = option(
        None,
        "most rows of each evaluation set; default: all",
        Question.STUDIES,
        parse=whole(1),
        metavar="N",
        studies=True,
    )
    group_by_length: bool = flag(
        "batch examples of similar length, so that there is less padding", Question.STUDIES, studies=True
    )
    pad_to_length: bool = flag(
        "pad every batch of a training to --peftbench-seq-len, not to its longest example",
        Question.STUDIES,
        studies=True,
        added=True,
    )
    test_data: tuple[str, ...] = option(
        (),
        "further sets to evaluate on, comma-separated: splits of --peftbench-data (test.hi), or folders like it",
        Question.STUDIES,
        parse=comma_separated,
        metavar="LIST",
        studies=True,
        pools=True,
    )
    serve: tuple[int, ...] = option(
        (1, 2, 4, 8, 16),
        "numbers of tasks that are served together; default: 1,2,4,8,16",
        Question.STUDIES,
        parse=each(whole(1, MOST_TRAININGS)),
        metavar="LIST",
    )
    requests: int = option(
        200,
        "requests that a deployment serves; default: 200",
        Question.STUDIES,
        parse=whole(1, MOST),
        metavar="N",
        studies=True,
        pools=True,
    )
    offered_load: tuple[str, ...] = option(
        (),
        "loads that are offered to a deployment, whose requests then arrive without waiting for answers: shares of "
        "what it can answer (50%,75%,90%,125%), or requests a second (20); default: none",
        Question.STUDIES,
        parse=each(_offered_load),
        metavar="LIST",
        studies=True,
        pools=True,
        added=True,
    )
