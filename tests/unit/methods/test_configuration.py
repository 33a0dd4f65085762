from dataclasses import dataclass

import pytest

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.configuration import Configuration
from peftbench.records.ids import Scalar


@dataclass(frozen=True)
class Config:
    size: int = 4
    scaling: float = 1.0
    layers: str = "all"
    flag: bool = False


def configured(**overrides: Scalar) -> Configuration[Config]:
    return Configuration.of("some", Config(), overrides)


def test_overrides_replace_defaults() -> None:
    assert configured().values == Config()
    assert configured(size=8, scaling=2, layers=3, flag=True).values == Config(8, 2.0, "3", flag=True)
    assert isinstance(configured(scaling=2).values.scaling, float)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"size": 1.5}, r"^some\(size=1.5\): must be a whole number$"),
        ({"size": True}, "must be a whole number"),
        ({"size": "big"}, "must be a whole number"),
        ({"scaling": "big"}, "must be a finite number"),
        ({"scaling": True}, "must be a finite number"),
        ({"scaling": float("nan")}, "must be a finite number"),
        ({"scaling": float("inf")}, "must be a finite number"),
        ({"flag": 1}, "must be true or false"),
        ({"scale": 1.0}, "^unknown override of some 'scale': did you mean 'scaling'?"),
    ],
)
def test_overrides_of_another_type_are_refused(overrides: dict[str, Scalar], message: str) -> None:
    with pytest.raises(UserError, match=message):
        configured(**overrides)


def test_what_does_not_fit_is_the_users_mistake_only_if_the_user_wrote_it() -> None:
    assert configured(size=4).require_divisor("size", 12, "the size") == 4
    with pytest.raises(
        UserError, match=r"^some\(size=5\): does not divide the size 12; choose one of 1, 2, 3, 4, 6, 12$"
    ):
        configured(size=5).require_divisor("size", 12, "the size")
    with pytest.raises(UnsupportedError, match=r"^some\(size=4\): does not divide the size 6"):
        configured().require_divisor("size", 6, "the size")
    with pytest.raises(UserError, match=r"^some\(size=0\): must be at least 1$"):
        configured(size=0).require_at_least("size", 1)
