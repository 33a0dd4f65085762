"""A method that does something bad in one phase of its case, and nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from peftbench.measure.findings import ProbeFindings
from peftbench.measure.probes import CpuProbes
from peftbench.measure.trial import nothing
from peftbench.methods.basic import SelectiveMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peftbench.measure.trial import Trial
    from peftbench.methods.base import Application

PHASES: Final = {
    "build": "trial",
    "validity": "begin",
    "saving": "reload",
    "merging": "merge",
    "first step": "_first",
    "counters": "_count",
    "memory": "round_parts",
    "timed rounds": "interleave",
    "energy": "after",
}
"""Phase -> the function that it goes through, by which it is known."""


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ...")


def exception() -> None:
    raise ValueError("boom")


def system_exit() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


KINDS: Final[dict[str, Callable[[], None]]] = {
    "out of memory": out_of_memory,
    "an exception": exception,
    "`SystemExit`": system_exit,
}


@dataclass(frozen=True, kw_only=True)
class Faulty(SelectiveMethod):
    """The head alone, with a deed."""

    phase: str
    deed: Callable[[], object] = field(repr=False)

    def _reached(self, *phases: str) -> None:
        if self.phase in phases and PHASES[self.phase] in set(_callers()):
            self.deed()

    def apply(self, model: PreTrainedModel, application: Application) -> torch.nn.Module:
        self._reached("build", "validity")
        applied = super().apply(model, application)
        applied.register_forward_pre_hook(self._forward)
        return applied

    def _forward(self, *_: object) -> None:
        self._reached("first step", "counters", "memory", "timed rounds", "energy")

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        super().save(model, folder)
        self._reached("saving")

    def merge(self, model: torch.nn.Module) -> torch.nn.Module:
        self._reached("merging")
        return super().merge(model)


def faulty(name: str, phase: str, deed: Callable[[], object]) -> Faulty:
    return Faulty(
        name=name, family="basic", summary="", source="", phase=phase, deed=deed, mergeable=phase == "merging"
    )


def methods() -> list[Faulty]:
    """Return a method for each phase and kind, named `fault0`, `fault1`, ... in the order of both."""
    cells = [(phase, deed) for phase in PHASES for deed in KINDS.values()]
    return [faulty(f"fault{number}", phase, deed) for number, (phase, deed) in enumerate(cells)]


def energy_on_a_cpu(_: CpuProbes, trial: Trial, *, tokens: float | None) -> ProbeFindings:
    """Stand in for the pass that runs rounds for energy, which a CPU does not have; a patch must be called `after`."""
    del tokens

    def after() -> Any:  # noqa: ANN401 - what a round returns
        return trial.run(0, nothing)

    after()
    return ProbeFindings()


def _callers() -> Iterator[str]:
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_code.co_name
        if frame.f_back is None:
            return
        frame = frame.f_back
