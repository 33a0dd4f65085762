from pathlib import Path
from types import SimpleNamespace

import pytest

from peftbench.devices.presence import on_cuda


@pytest.mark.parametrize(
    ("node", "version", "visible", "found"),
    [
        ("nvidia0", "cuda: Optional[str] = '13.0'", None, True),
        ("nvidia3", "cuda = '12.6'", "3", True),
        ("dxg", "cuda: str | None = '13.0'", None, True),
        ("nvidia0", "cuda: Optional[str] = None", None, False),
        ("nvidiactl", "cuda = '12.6'", None, False),
        ("nvidia0", "cuda = '12.6'", "", False),
        ("nvidia0", "cuda = '12.6'", "-1", False),
    ],
)
def test_a_gpu_is_seen_without_torch(
    node: str, version: str, visible: str | None, *, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / node).touch()
    (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\n{version}\nhip: Optional[str] = None\n")
    monkeypatch.setattr("peftbench.devices.presence.DEVICES", tmp_path)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("peftbench.devices.presence.find_spec", lambda _: spec)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert on_cuda("auto") is found
    assert on_cuda("cuda:1")
    assert not on_cuda("cpu")
