"""How Sphinx makes a site of these pages; `make docs` runs it, and a dead link or anchor fails."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "peftbench"
extensions = ["myst_parser", "code_tables"]
exclude_patterns = ["_extensions"]
nitpicky = True
smartquotes = False  # two dashes begin an option

myst_heading_anchors = 3
"""Headings down to ### can be linked to, by the names that GitHub gives them."""

html_theme = "furo"
html_title = "peftbench"
html_show_copyright = False
html_show_sourcelink = False
