import pytest

from peftbench.errors import UnsupportedError
from peftbench.matrix.catalogue import Catalogue
from peftbench.methods.base import Application
from peftbench.methods.peft.excluded import METHODS


def test_each_is_known_by_name_with_its_reason() -> None:
    catalogue = Catalogue.load()
    task = catalogue.task("nli")
    for method in METHODS:
        assert catalogue.method(method.name) is method
        assert method.unsupported(task, architecture="bert") == method.reason
        with pytest.raises(UnsupportedError, match=method.name):
            method.apply(None, Application(task=task))
