from collections.abc import Callable

import pytest

from peftbench.config.settings import Settings
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.workloads.backend import Backend
from peftbench.workloads.subject import Subject

MakeSubject = Callable[..., Subject]


@pytest.fixture(scope="session")
def subject_of() -> MakeSubject:
    """Makes a subject on the smallest preset, given a method as on the command line, the task (nli), and settings."""
    catalogue = Catalogue.load()

    def subject(method: str, task: str = "nli", **settings: object) -> Subject:
        chosen = Settings(**{"model": "tiny", "device": "cpu", "seq_len": 8, **settings})  # type: ignore[arg-type]
        backend = Backend.open(chosen, catalogue, [catalogue.task(task)])
        return backend.group(task, 2).subject(parse_method(method))

    return subject
