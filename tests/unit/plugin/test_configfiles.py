"""What is said of files of options that cannot be read; pytest itself stops at some of them earlier."""

from pathlib import Path

import pytest

from peftbench.errors import UserError
from peftbench.plugin.configfiles import own_table


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"tool = 'a'", "[tool] must be a table of options, not 'a'"),
        (b"[tool]\npeftbench = [3]", "[tool.peftbench] must be a table of options, not [3]"),
        (b"[tool.peftbench", "is no TOML that can be read: "),
        (b"a = '\xff'", "is no TOML that can be read: "),
        (b"a = " + b"[" * 5000, "is no TOML that can be read: "),
        (b"[tool.peftbench]\nmethod = 1", "unknown key in [tool.peftbench]: 'method': did you mean 'methods'?"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(UserError) as error:
        own_table(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_keys_are_fields(tmp_path: Path) -> None:
    assert own_table(tmp_path) == {}
    (tmp_path / "pyproject.toml").write_text("[tool]\n[tool.peftbench]\nbatch-sizes = [1]\nseed = 2\n")
    assert own_table(tmp_path) == {"batch_sizes": [1], "seed": 2}
