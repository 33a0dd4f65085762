"""What a workload is: the function that is timed, and what it needs to be ready."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from peftbench.config.precision import Precision
from peftbench.devices.compiling import compiled

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from peftbench.config.settings import Settings
    from peftbench.matrix.cases import Case
    from peftbench.methods.base import Application, Method
    from peftbench.records.record import Metric
    from peftbench.tasks.base import Batch

BATCHES: Final = 4
"""Batches in rotation, all of one shape: rounds are alike, and none finds the last one's input in a cache."""

Mark = Callable[[], None]
"""Called at the end of each phase of a round; costs one clock reading (CPU) or one event record (CUDA)."""


def nothing() -> None:
    """Stand for what a trial need not do, and for a mark that nobody reads."""


@dataclass(frozen=True, slots=True)
class Optimization:
    """How weights are updated; neither number changes the time of a step."""

    learning_rate: float = 3e-5
    """The paper's, for every method."""
    weight_decay: float = 0.1
    implementation: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments that choose the implementation of a PyTorch optimizer: `Precision.optimizer_arguments`."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A method on a task, from which a workload makes what it times."""

    method: Method
    application: Application
    batches: Sequence[Batch]
    """On the device; round i takes batch i modulo their number."""
    fresh_model: Callable[[], PreTrainedModel]
    """Makes another copy of the model with its task head, untouched by any method, on the device."""
    precision: Precision = Precision()
    compile: bool = False
    optimization: Optimization = Optimization()

    def applied_model(self) -> torch.nn.Module:
        """Return a fresh model with the method applied."""
        return self.method.apply(self.fresh_model(), self.application)

    def callable(self, model: torch.nn.Module) -> Callable[..., Any]:
        """Return what a round calls: the model, or its compiled form."""
        return compiled(model) if self.compile else model

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the method's own optimizer, else AdamW over the parameters that are trained."""
        import torch

        optimization = replace(self.optimization, implementation=self.precision.optimizer_arguments())
        return self.method.optimizer(model, optimization) or torch.optim.AdamW(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=optimization.learning_rate,
            weight_decay=optimization.weight_decay,
            **optimization.implementation,
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """A workload on one subject, ready to be timed."""

    model: torch.nn.Module
    """Whose parameters and memory are told."""
    run: Callable[[int, Mark], object]
    """One round, given its number; calls the mark once at the end of each of the workload's phases."""
    prepare: Callable[[int], None] | None = None
    """What must happen before each round, outside its time."""
    optimizer: torch.optim.Optimizer | None = None
    close: Callable[[], None] = nothing
    """Called when there are no more rounds to come."""
    fullest: int = BATCHES
    """Number of a round, not the first, that does all that a round ever does: counters and memory are of it.

    It should take the first batch, so that cases are counted alike: what is done hangs on where a batch is padded.
    """
    linked: bool = False
    """Whether what a round does hangs on what the one before it left."""

    def ready(self, number: int) -> None:
        """Do what must happen before a round."""
        if self.prepare is not None:
            self.prepare(number)

    def lead_up(self, number: int) -> None:
        """Make a round ready; where rounds are linked, take the one before it as well."""
        if self.linked:
            self.ready(number - 1)
            self.run(number - 1, nothing)
        self.ready(number)


@dataclass(frozen=True, kw_only=True)
class Workload(ABC):
    """The function that is timed."""

    name: str
    summary: str
    phases: tuple[str, ...] = ()
    """Names of the parts of a round, in order, that are reported apart; empty where there is but one."""
    trains: bool = False
    """Whether a round changes weights."""
    paired: bool = True
    """Whether rounds alternate with those of the reference (the same workload of the reference method)."""
    default: bool = True
    """Whether it is measured where neither it nor the file of its benchmark function is named."""
    in_all: bool = True
    """Whether `all` stands for it as well."""
    runs_model: bool = True
    """Whether a round runs the model on a batch: then tokens have a rate, and the model can be compiled."""
    counted: bool = True
    """Whether warm rounds do the same, call by call, so that counters of one hold for all."""
    methods: tuple[str, ...] = ("default",)
    """What is measured where no method is named; so with the next two."""
    tasks: tuple[str, ...] = ()
    """None: all."""
    batch_sizes: tuple[int, ...] = (1, 8)

    def expand(self, cases: Sequence[Case], settings: Settings) -> Sequence[Case]:
        """Return what is made of the matrix of methods, tasks and batch sizes."""
        del settings
        return cases

    def unsupported(self, method: Method, precision: Precision) -> str:
        """Return the reason why the workload cannot be done with `method` at `precision`, or ''."""
        del method, precision
        return ""

    @abstractmethod
    def trial(self, subject: Subject) -> Trial:
        """Build the model and everything else that a round needs.

        Raises:
            UnsupportedError: it cannot be done with this method on this model.
        """

    def reference_trial(self, subject: Subject) -> Trial:
        """Build what rounds alternate with, given the reference method on the same batches."""
        return self.trial(subject)

    def own_metrics(self, subject: Subject) -> Mapping[str, Metric]:
        """Return what else the workload tells of a subject, found out in a pass of its own."""
        del subject
        return {}
