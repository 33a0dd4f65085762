"""`peftbench site` makes a folder of pages from all files of peftbench in some folders, for any static host."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from peftbench.errors import UserError
from peftbench.text import on_terminal

if TYPE_CHECKING:
    from peftbench.commands.arguments import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "site",
        help="make a site of results: pages of several machines, and a history by commit or release",
        description="Make a folder of HTML files from all runs, baselines, comparisons and histories in some folders. "
        "It is replaced whole, or stays as it was. Needs pip install 'peftbench[report]'.",
        usage="%(prog)s [options] PATH [PATH ...] -o DIR",
    )
    parser.add_argument("paths", metavar="PATH", type=Path, nargs="+", help="folder or file: baselines/ runs/")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder of the site")
    parser.add_argument("--title", default="peftbench: results", help="title of the site's index")
    parser.add_argument(
        "--pages",
        metavar="N",
        type=int,
        default=20,
        help="most runs of a machine that have a page of their own; older ones are in its history; default: 20",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the site, and say on stderr which files are left out."""
    from peftbench.pages.page import require_packages
    from peftbench.pages.site import found_in, write_site
    from peftbench.pages.sources import Sources
    from peftbench.report.numbers import counted

    if arguments.pages < 0:
        raise UserError(f"--pages {arguments.pages}: must be at least 0")
    require_packages()
    files = found_in(arguments.paths, but=arguments.output.resolve())
    for problem in files.left_out:
        sys.stderr.write(f"peftbench: left out: {on_terminal(problem)}\n")
    if files.sources == Sources():
        raise UserError("there is no run, baseline, comparison or history to show, so no site was written")
    written = write_site(files, arguments.output, title=arguments.title, pages=arguments.pages)
    sys.stdout.write(
        f"{on_terminal(str(arguments.output))}: {counted(len(written), 'file')} written; begin with index.html\n"
    )
    return 0
