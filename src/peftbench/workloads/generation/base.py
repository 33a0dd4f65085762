"""The base of the workloads of generation: the states of an adapter, and a trial whose rounds use a cache."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from peftbench.errors import UnsupportedError
from peftbench.measure.trial import Trial
from peftbench.methods.peft.wrapping import virtual_tokens
from peftbench.records.record import Metric
from peftbench.tasks.base import Head
from peftbench.workloads.base import Workload

if TYPE_CHECKING:
    import torch

    from peftbench.config.settings import Settings
    from peftbench.measure.trial import Mark
    from peftbench.records.ids import Case, MethodSpec
    from peftbench.records.record import Record
    from peftbench.tasks.base import Task
    from peftbench.workloads.backend import Backend
    from peftbench.workloads.base import Measurement, TakeRound, Workbench
    from peftbench.workloads.subject import Subject

FULL: Final = "full"
"""The method without an adapter: its model is the backbone alone."""
ACTIVE, MERGED, DISABLED = "active", "merged", "disabled"
"""States of an adapter: active and not merged, folded into the weights, or attached and bypassed."""


@dataclass(frozen=True, slots=True)
class Round:
    """What a round of generation calls, and the bytes of its cache."""

    take: Callable[[int], object]
    cache_bytes: int
    keeps_cache: bool = True
    """Whether the cache is kept between the rounds, and not made in each."""


@dataclass(frozen=True, kw_only=True)
class Generation(Workload):
    """The base of the workloads of generation. A case's variant holds the lengths, and the adapter's state."""

    default: bool = False
    generates: bool = True
    tasks: tuple[str, ...] = ("sft",)
    adapter: str = field(default=ACTIVE, compare=False)
    """State of the adapter. It is not compared: the reference has no adapter, and is shared by all states."""
    varied: ClassVar[tuple[str, ...]] = ()
    """The lengths that a case varies, which are fields; the setting of each is the field with `_tokens`."""

    def expand(self, cases: Sequence[Case], settings: Settings) -> Sequence[Case]:
        """Return one case for each length and each state of the adapter."""
        return [
            case.with_variant(**lengths, **state)
            for lengths in self._lengths(settings)  # outermost: cases of one length share a reference
            for case in cases
            for state in states(case.method)
        ]

    def _lengths(self, settings: Settings) -> Iterator[dict[str, int]]:
        choices = (dict.fromkeys(getattr(settings, f"{name}_tokens")) for name in self.varied)
        for chosen in product(*choices):
            yield dict(zip(self.varied, chosen, strict=True))

    def of(self, case: Case) -> Self:
        """Return the workload with the lengths and the adapter's state of a case."""
        changes: dict[str, Any] = dict(case.variant)
        return replace(self, **changes)

    def can_do(self, task: Task) -> bool:
        """Tell whether the task is one of text that is generated."""
        return task.head is Head.CAUSAL_LM

    def length(self, case: Case, backend: Backend) -> int:
        """Return the tokens of a row before the first new one."""
        del backend
        return int(case.varied(self.varied[0]))

    def unsupported_case(self, case: Case, backend: Backend) -> str:
        """Return the reason why a case cannot be measured, or ''."""
        for task in map(backend.definitions.task, case.tasks):
            if not self.can_do(task):
                return (
                    f"{self.name} needs a task whose answers are generated, such as sft; those of {task.name} are not"
                )
        if backend.execution.captures:  # it would run eagerly under the name of another execution
            return f"{self.name} is not captured in a CUDA graph; give --peftbench-execution=eager or compile"
        merged = dict(case.variant).get("adapter") == MERGED
        why_not_merged = backend.definitions.method(case.method.name).why_not_merged if merged else ""
        return super().unsupported_case(case, backend) or why_not_merged

    def measure(self, case: Case, bench: Workbench, measurement: Measurement) -> Record:
        """Take all passes over the case."""
        del bench
        return measurement.take_passes(self.of(case), case, measurement)

    def try_once(self, case: Case, bench: Workbench, take_round: TakeRound) -> None:
        """Run one round."""
        del bench
        take_round(self.of(case), case)

    @property
    @abstractmethod
    def needed(self) -> int:
        """Positions that a row needs, without those of trained tokens."""

    @abstractmethod
    def round(self, subject: Subject, model: torch.nn.Module) -> Round:
        """Return what a round calls, given the model with its adapter in the right state."""

    def without_gradients(self) -> AbstractContextManager[object]:
        """Return the context of a round, in which torch records no operators: inference mode, as in `inference`."""
        import torch

        return torch.inference_mode()

    def trial(self, subject: Subject) -> Trial:
        """Build the model in evaluation mode, put its adapter into the right state, and fill the cache."""
        with ExitStack() as stack:
            model = model_in_state(subject, self.adapter, stack)
            self._require_room(subject, model)
            device = next(model.parameters()).device
            with (
                self.without_gradients(),
                subject.method.faults(model, subject.application, "generate with"),
                subject.precision.forward_context(device),
            ):
                found = self.round(subject, model)

            def run(number: int, mark: Mark) -> object:
                del mark
                with self.without_gradients(), subject.precision.forward_context(device):
                    return found.take(number)

            return Trial(
                model=model,
                run=run,
                cache_bytes=found.cache_bytes if found.keeps_cache else 0,
                metrics={"cache_bytes": Metric(found.cache_bytes, "B")},
                close=stack.pop_all().close,
            )

    def reference_trial(self, subject: Subject) -> Trial:
        """Build the trial of the plain model, which has no adapter that could be merged."""
        return replace(self, adapter=ACTIVE).trial(subject)

    def _require_room(self, subject: Subject, model: torch.nn.Module) -> None:
        positions = subject.application.positions
        own = virtual_tokens(model)
        if positions is not None and self.needed + own > positions:
            trained = f", {own} of them trained tokens of the method" if own else ""
            raise UnsupportedError(
                f"{self.name} needs {self.needed + own} positions{trained}, and the model has {positions}: "
                f"give shorter {' and '.join(f'--peftbench-{name}-tokens' for name in self.varied)}"
            )


def states(spec: MethodSpec) -> Iterator[Mapping[str, str]]:
    """Yield the variants of a method: its adapter active, merged and disabled; `full` has no adapter."""
    yield {}
    if spec.name != FULL:
        yield {"adapter": MERGED}
        yield {"adapter": DISABLED}


def model_in_state(subject: Subject, adapter: str, stack: ExitStack) -> torch.nn.Module:
    """Return a new model in evaluation mode, its adapter active, merged, or disabled until the stack is closed.

    Raises:
        UnsupportedError: the method cannot do that.
    """
    model = subject.applied_model().eval()
    if adapter == MERGED:
        return subject.method.merge(model).eval()
    if adapter == DISABLED:
        stack.enter_context(subject.method.disabled(model))
    return model
