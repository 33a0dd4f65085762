"""The results of validity passes. Each method is proven once on a task, for all workloads and batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from peftbench.errors import ValidityError
from peftbench.validity import check as validity
from peftbench.validity import generation

if TYPE_CHECKING:
    from peftbench.records.ids import Case, MethodSpec
    from peftbench.workloads.subject import Subject

T = TypeVar("T", validity.Validity, generation.GenerationValidity)


class Proofs:
    """Remembers the result of each validity pass. It holds for all batch sizes: the pass uses the first rows only."""

    def __init__(self) -> None:
        self._found: dict[tuple[MethodSpec, str], validity.Validity | str] = {}
        """Result by method and task; if it failed, the reason. An error would keep its frames and their models."""
        self._generation: dict[tuple[MethodSpec, str], generation.GenerationValidity | str] = {}
        """The same of generation."""

    def of(self, case: Case, subject: Subject) -> validity.Validity:
        """Return the validity of the case's method on its task.

        Raises:
            ValidityError: the method does not do what it claims to.
        """
        return _remembered(self._found, case, partial(validity.check, subject))

    def of_generation(self, case: Case, subject: Subject) -> generation.GenerationValidity:
        """Return the validity of generation with the case's method on its task.

        Raises:
            ValidityError: the method generates something else than it computes without a cache.
        """
        return _remembered(self._generation, case, partial(generation.check_generation, subject))


def _remembered(found: dict[tuple[MethodSpec, str], T | str], case: Case, prove: Callable[[], T]) -> T:
    key = (case.method, case.task)
    if key not in found:
        try:
            found[key] = prove()
        except ValidityError as error:
            found[key] = str(error)
    proof = found[key]
    if isinstance(proof, str):
        raise ValidityError(proof)
    return proof
