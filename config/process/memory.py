"""How much memory this process may use: the machine's, or less in a container or a service with a limit."""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def memory_bytes(*, cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """The least of the machine's memory and the limits of the control groups that the process is in (v2, and v1)."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(cgroups, own)])


def _limits(cgroups: Path, own: Path) -> Iterator[int]:
    for file in _limit_files(cgroups, own):
        try:
            limit = file.read_text().strip()
        except OSError:
            continue
        if limit.isdigit():  # "max" is none
            yield int(limit)


def _limit_files(cgroups: Path, own: Path) -> Iterator[Path]:
    """A limit may be set on any level; in a container the own group is seen as the root."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        yield from (folder / name for folder in (group, *group.parents) if folder.is_relative_to(root))
