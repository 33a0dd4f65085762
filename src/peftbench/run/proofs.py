"""What methods have proven: each once on a task, for the workloads and batch sizes that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftbench.errors import ValidityError
from peftbench.validity import check as validity

if TYPE_CHECKING:
    from peftbench.records.ids import Case, MethodSpec
    from peftbench.workloads.subject import Subject


class Proofs:
    """Remembers what the validity pass found: it looks at the first few rows only, whatever the batch size."""

    def __init__(self) -> None:
        self._found: dict[tuple[MethodSpec, str], validity.Validity | str] = {}
        """Of what failed, the reason alone: an error would keep the frames that it went through, models and all."""

    def of(self, case: Case, subject: Subject) -> validity.Validity:
        """Return what the method of a case has proven on its task.

        Raises:
            ValidityError: it does not do what it claims to.
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
