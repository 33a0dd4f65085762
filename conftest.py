"""Puts the plugin in reach of a bare checkout, where the package is not installed."""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("peftbench") is None:
    sys.path.insert(0, str(Path(__file__).parent / "src"))
    pytest_plugins = ["peftbench.plugin"]
