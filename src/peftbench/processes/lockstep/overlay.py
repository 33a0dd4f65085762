"""Makes an environment that differs from this one in some packages.

It shares all other packages with this environment, so that it is made in seconds.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from peftbench.errors import UserError
from peftbench.processes.git import without_git
from peftbench.processes.launches.process import last_line
from peftbench.records.fileio import locked, write_atomically
from peftbench.records.workfolder import ANOTHER_CACHE, make_ready
from peftbench.text import masked

MOST_STEPS: Final = 5
"""Most rounds of installing dependencies of what was installed."""

_PINNED: Final = re.compile(r"@[0-9a-f]{40}(?:#|$)|#(?:.*&)?sha256=[0-9a-f]{64}", re.IGNORECASE)
"""Part of an address whose content never changes: the commit of a repository, or the hash of a file."""


def python_with(requirements: Sequence[str], cache: Path) -> Path:
    """Return the interpreter of an environment that meets the requirements, and make it if the cache has none.

    The environment sees all packages of this environment, except those that it has itself. The key of the cache is made
    of this environment's packages, the requirements and the files that they name. The content of some addresses may
    change at any time (a branch, a folder, a file on a server). An environment with such a requirement is not shared,
    and is deleted when this process ends.

    Raises:
        UserError: a requirement cannot be installed, or a folder of that name is there that peftbench did not make.
    """
    installed = sorted(f"{found.name}=={found.version}" for found in distributions() if found.name)
    contents = [_contents(parse(text)) for text in sorted(requirements)]
    own = secrets.token_hex(4) if None in contents else ""
    key = json.dumps([sys.executable, sys.version, installed, sorted(requirements), contents, own])
    folder = cache / "environments" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if own:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ready = folder / "peftbench-ready"
    with locked(folder, timeout_s=600.0):
        if not ready.exists():
            make_ready(folder, instead=ANOTHER_CACHE)
            _make(folder, requirements, python)
            write_atomically(ready, "".join(f"{masked(text)}\n" for text in requirements))
    return python


def unsatisfied(requirements: Iterable[str], path: Sequence[str] | None = None) -> list[str]:
    """Return the requirements that the packages on a path (by default `sys.path`) do not meet.

    Raises:
        UserError: a requirement cannot be read.
    """
    found: dict[str, Distribution] = {}
    for distribution in distributions() if path is None else distributions(path=list(path)):
        found.setdefault(canonicalize_name(distribution.name or ""), distribution)
    return [text for text in requirements if not _met(parse(text), found)]


def parse(text: str) -> Requirement:
    """Read a requirement; raises UserError for any other text."""
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise UserError(f"{text!r} is no requirement: {' '.join(str(error).split())}") from None


def _contents(requirement: Requirement) -> str | None:
    """Return a text that changes when the content of a requirement does; None if no such text is known."""
    url = urlsplit(requirement.url or "")
    if not url.scheme or _PINNED.search(url.geturl()):
        return ""
    path = Path(url2pathname(url.path))
    if url.scheme != "file" or not path.is_file():
        return None
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _met(requirement: Requirement, found: dict[str, Distribution]) -> bool:
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return True
    distribution = found.get(canonicalize_name(requirement.name))
    if distribution is None or requirement.url:
        return False
    return requirement.specifier.contains(distribution.version, prereleases=True)


def _make(folder: Path, requirements: Sequence[str], python: Path) -> None:
    uv = shutil.which("uv")
    if uv:
        _run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)])
    else:
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    shared = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    lines = [f"import site; site.addsitedir({entry!r})" for entry in shared]
    (own / "peftbench-shared.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    install = [uv, "pip"] if uv else [sys.executable, "-m", "pip", "--python", str(python)]
    target = ["--python", str(python)] if uv else ["--disable-pip-version-check"]
    wanted = list(requirements)
    for _ in range(MOST_STEPS):
        _run([*install, "install", "--quiet", *target, "--no-deps", *wanted])
        needed = [text for found in distributions(path=[str(own)]) for text in found.requires or ()]
        wanted = unsatisfied(needed, [str(own), *shared])
        if not wanted:
            return
    raise UserError(f"cannot install {' '.join(requirements)}: still missing {', '.join(wanted)}")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(  # noqa: S603 - uv, or this interpreter
        command,
        env=without_git(os.environ),  # both call git for an address that begins with git+
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = last_line(done.stderr or done.stdout)
        raise UserError(f"`{' '.join(map(str, command[:4]))} ...` failed: {said}")
