import subprocess
import sys

import pytest

import peftbench


@pytest.mark.parametrize("name", peftbench.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(peftbench, name)
    assert value.__name__ == name
    assert value.__doc__


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match=r"^module 'peftbench' has no attribute 'nothing'$"):
        _ = peftbench.nothing


def test_the_package_itself_is_light() -> None:
    code = (
        "import sys, peftbench\n"
        "heavy = {'torch', 'transformers', 'peft', 'datasets', 'pytest', 'peftbench.methods.base'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
