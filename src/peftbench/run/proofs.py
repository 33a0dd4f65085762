"""The results of validity passes. Each method is proven once on a task, for all workloads and batch sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftbench.errors import ValidityError
from peftbench.validity import check as validity

if TYPE_CHECKING:
    from peftbench.records.ids import Case, MethodSpec
    from peftbench.workloads.subject import Subject


class Proofs:
    """Remembers the result of each validity pass. It holds for all batch sizes: the pass uses the first rows only."""

    def __init__(self) -> None:
        self._found: dict[tuple[MethodSpec, str], validity.Validity | str] = {}
        """Result by method and task; if it failed, the reason. An error would keep its frames and their models."""

    def of(self, case: Case, subject: Subject) -> validity.Validity:
        """Return the validity of the case's method on its task.

        Raises:
            ValidityError: the method does not do what it claims to.
        """
        key = (case.method, case.task)
        if key not in self._found:
            try:
                self._found[key] = validity.check(subject)
            except ValidityError as error:
                self._found[key] = str(error)
        proof = self._found[key]
        if isinstance(proof, str):
            raise ValidityError(proof)
        return proof
