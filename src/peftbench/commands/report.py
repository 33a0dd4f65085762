"""`peftbench report` makes a page with plots and tables from any files of peftbench, and figures for a paper."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from peftbench.commands.claims import add_target
from peftbench.errors import UserError
from peftbench.report.contents import KINDS
from peftbench.text import on_terminal

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "report",
        help="make a page with plots and tables, and figures for a paper",
        description=f"Make one HTML file that works offline, from {KINDS}. Needs pip install 'peftbench[report]'.",
        usage="%(prog)s [options] FILE [FILE ...] -o PAGE",
    )
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help=f"any of: {KINDS}")
    parser.add_argument("-o", "--output", metavar="PAGE", type=Path, help="HTML file to be written")
    parser.add_argument(
        "--figures",
        metavar="DIR",
        type=Path,
        help="write each plot as SVG and PNG, and its data as CSV, into this folder",
    )
    parser.add_argument("--title", default="", help="title of the page; default: model and machine")
    add_target(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write what was asked for."""
    from peftbench.pages.content import content_of
    from peftbench.pages.figures import write_figures
    from peftbench.pages.page import render, require_packages
    from peftbench.pages.sources import read_sources
    from peftbench.records.fileio import is_stream, require_folder, write_atomically
    from peftbench.report.numbers import counted

    if arguments.output is None and arguments.figures is None:
        raise UserError("name a page to be written (-o report.html), or a folder of figures (--figures=DIR)")
    require_packages()
    if arguments.output is not None:
        is_stream(arguments.output)
    if arguments.figures is not None:
        require_folder(arguments.figures, of=arguments.figures)
    content = content_of(read_sources(arguments.files), title=arguments.title, target=arguments.target)
    if arguments.output is not None:
        write_atomically(arguments.output, render(content))
        sys.stdout.write(f"{on_terminal(str(arguments.output))}: written\n")
    if arguments.figures is not None:
        written = write_figures(content, arguments.figures)
        why = "" if written else ", since nothing in these files can be drawn"
        sys.stdout.write(f"{on_terminal(str(arguments.figures))}: {counted(len(written), 'file')} written{why}\n")
    return 0
