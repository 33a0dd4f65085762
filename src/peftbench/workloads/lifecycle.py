"""The operations on an adapter as a whole: attach, save, load, switch, merge and unmerge.

None of them runs the model on a batch. So there are no tokens per second, nothing is compiled, and there is no
reference, since a ratio to the time of another operation would say little.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peftbench.errors import UnsupportedError
from peftbench.measure.trial import Trial
from peftbench.records.record import Metric
from peftbench.records.scratch import scratch_folder
from peftbench.workloads.base import Workload

if TYPE_CHECKING:
    import torch

    from peftbench.devices.precision import Precision
    from peftbench.measure.trial import Mark
    from peftbench.methods.base import Method
    from peftbench.workloads.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Lifecycle(Workload):
    """An operation on an adapter as a whole."""

    paired: bool = False
    default: bool = False
    runs_model: bool = False


@dataclass(slots=True)
class _Fresh:
    """A new model without a method for each round. The model of the round before is released first."""

    subject: Subject
    model: Any = None
    result: torch.nn.Module | None = None

    def prepare(self, number: int) -> None:
        del number
        self.model = self.result = None
        gc.collect()  # wrapped models hold cycles, and nothing is collected while rounds are timed
        self.model = self.subject.fresh_model()


@dataclass(frozen=True, kw_only=True)
class Attach(Lifecycle):
    """`Method.apply` on a fresh model: new weights are made, modules wrapped, the rest frozen."""

    counted: bool = False

    def trial(self, subject: Subject) -> Trial:
        """Make a fresh model before each round."""
        method, application, fresh = subject.method, subject.application, _Fresh(subject)

        def run(number: int, mark: Mark) -> None:
            del number, mark
            fresh.result = method.apply(fresh.model, application)

        return Trial(model=_off_device(subject.applied_model()), run=run, prepare=fresh.prepare)

    def own_metrics(self, subject: Subject) -> Mapping[str, Metric]:
        """Return the bytes that stay allocated after the adapter was removed from a model that stays in memory."""
        return {"left_bytes": left_bytes(subject)}


@dataclass(frozen=True, kw_only=True)
class Save(Lifecycle):
    """`Method.save` into an empty folder. The files are written, but not flushed to the disk."""

    counted: bool = False

    def trial(self, subject: Subject) -> Trial:
        """Empty the folder before each round, and delete it at the end."""
        model = subject.applied_model()
        method = subject.method
        with ExitStack() as stack:
            folder = stack.enter_context(scratch_folder()) / "adapter"

            def prepare(number: int) -> None:
                del number
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()

            def run(number: int, mark: Mark) -> None:
                del number, mark
                method.save(model, folder)

            return Trial(model=model, run=run, prepare=prepare, close=stack.pop_all().close)


@dataclass(frozen=True, kw_only=True)
class Load(Lifecycle):
    """`Method.load` onto a fresh model. The files were just written, so they are still in the system's cache."""

    counted: bool = False

    def trial(self, subject: Subject) -> Trial:
        """Save once, and make a fresh model before each round."""
        model = subject.applied_model()
        method, application, fresh = subject.method, subject.application, _Fresh(subject)
        with ExitStack() as stack:
            folder = stack.enter_context(scratch_folder())
            method.save(model, folder)

            def run(number: int, mark: Mark) -> None:
                del number, mark
                fresh.result = method.load(fresh.model, application, folder)

            return Trial(model=_off_device(model), run=run, prepare=fresh.prepare, close=stack.pop_all().close)


@dataclass(frozen=True, kw_only=True)
class Switch(Lifecycle):
    """`Method.activate`: switches from one of two adapters in a model to the other, with their heads."""

    def trial(self, subject: Subject) -> Trial:
        """Add the second adapter. Rounds switch back and forth."""
        model, method = subject.applied_model(), subject.method
        first, second = method.add_second(model)

        def prepare(number: int) -> None:
            method.activate(model, second if number % 2 else first)

        def run(number: int, mark: Mark) -> None:
            del mark
            method.activate(model, first if number % 2 else second)

        return Trial(model=model, run=run, prepare=prepare)


@dataclass(slots=True)
class _Merging:
    """An adapter that is merged into its model and unmerged in turn."""

    method: Method
    model: torch.nn.Module
    merged: bool = field(default=False, init=False)

    def set(self, *, merged: bool) -> None:
        if merged and not self.merged:
            self.method.merge_in_place(self.model)
        elif self.merged and not merged:
            self.method.unmerge_in_place(self.model)
        self.merged = merged


@dataclass(frozen=True, kw_only=True)
class Merge(Lifecycle):
    """`Method.merge_in_place` or `Method.unmerge_in_place`. The other one undoes it before each round, untimed."""

    merges: bool = True
    """True: a round merges. False: a round unmerges."""

    def unsupported(self, method: Method, precision: Precision) -> str:
        """Return the reason why the method cannot be merged, or ''."""
        del precision
        return method.why_not_merged

    def trial(self, subject: Subject) -> Trial:
        """Undo each round before the next one."""
        merging = _Merging(subject.method, subject.applied_model().eval())
        merges = self.merges

        def prepare(number: int) -> None:
            del number
            merging.set(merged=not merges)

        def run(number: int, mark: Mark) -> None:
            del number, mark
            merging.set(merged=merges)

        return Trial(model=merging.model, run=run, prepare=prepare)


def _off_device(model: torch.nn.Module) -> torch.nn.Module:
    """Move the model whose parameters are reported to the CPU, so that the device holds only the round's own model."""
    return model.cpu()


def left_bytes(subject: Subject) -> Metric:
    """Return the bytes that stay allocated after the adapter was applied to a model and removed again.

    The model itself stays in memory, as in a server that changes its adapters. A trained head that replaces the plain
    one does not count.
    """
    from peftbench.measure.memory.device_memory import release

    model: Any = subject.fresh_model()
    device = model.device
    if device.type != "cuda":
        return Metric(None, "B", noise="sampled", reason=f"PyTorch does not report allocated bytes of {device.type}")
    before_bytes = release(device)
    try:
        model = subject.method.remove(subject.method.apply(model, subject.application))
    except UnsupportedError as error:
        return Metric(None, "B", noise="sampled", reason=str(error))
    return Metric(release(device) - before_bytes, "B", noise="sampled")


WORKLOADS: tuple[Workload, ...] = (
    Attach(name="attach", summary="a fresh model is wrapped, new weights are made"),
    Save(name="save", summary="what was trained is written to files"),
    Load(name="load", summary="a fresh model is wrapped, weights are read from files"),
    Switch(name="switch", summary="one of two adapters in a model is activated in place of the other"),
    Merge(name="merge", summary="the adapter is folded into the weights, in place"),
    Merge(name="unmerge", summary="the adapter is taken out of the weights again", merges=False),
)
