from peftbench import plugin
from peftbench.plugin import hooks


def test_pytest_sees_every_hook() -> None:
    written = {name for name in vars(hooks) if name.startswith("pytest_")}
    assert written | {"peft_case"} <= set(vars(plugin))
