"""What packages and conftest.py files add to the catalogue, and what is refused in one line."""

from collections.abc import Iterator

import pytest

from peftbench.errors import UserError
from peftbench.matrix.catalogue import Catalogue, unfolded
from peftbench.matrix.listing import tasks
from peftbench.methods.basic import METHODS
from peftbench.tasks.classification import ClassificationTask

TOPIC = ClassificationTask(name="topic", labels=("world", "sports"), fields=("text", "label"), max_length=64)


def test_a_definition_alone_is_a_list_of_one() -> None:
    def several() -> Iterator[ClassificationTask]:
        yield TOPIC

    assert unfolded(TOPIC) == unfolded([TOPIC]) == unfolded(several()) == [TOPIC]


def test_a_task_of_ones_own_needs_no_data_on_the_hub() -> None:
    assert list(tasks(Catalogue.load(tasks=[TOPIC])))[-1]["hub"] is None


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [(TOPIC, "ClassificationTask(name='topic'"), (type(METHODS[0]), "<class 'peftbench"), ("norms", "'norms'")],
)
def test_a_definition_of_another_kind_is_refused_by_name(wrong: object, shown: str) -> None:
    with pytest.raises(UserError) as caught:
        Catalogue.load(methods=[wrong])  # type: ignore[list-item]
    assert str(caught.value).startswith(f"peftbench.methods: conftest.py adds {shown}")
    assert str(caught.value).endswith("which is no instance of Method")
