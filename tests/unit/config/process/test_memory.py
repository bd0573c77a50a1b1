import os
from pathlib import Path

import pytest

from lowtide.config.process.memory import memory_bytes

MACHINE_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
LIMIT_BYTES = 64_000_000


def group(folder: Path, name: str, limit: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{limit}\n")


@pytest.mark.parametrize("level", ["", "system.slice", "system.slice/lowtide.service"])
def test_a_limit_on_any_level_of_the_control_groups_counts(level: str, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/system.slice/lowtide.service\n")
    for each in ("", "system.slice", "system.slice/lowtide.service"):
        group(tmp_path / "cgroup" / each, "memory.max", LIMIT_BYTES if each == level else "max")
    assert memory_bytes(cgroups=tmp_path / "cgroup", own=own) == LIMIT_BYTES


def test_in_a_container_the_own_group_is_the_root_whatever_it_is_called_outside(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("9:name=systemd:/\n4:cpu,memory:/docker/abc\n")
    group(tmp_path / "cgroup" / "memory", "memory.limit_in_bytes", LIMIT_BYTES)
    assert memory_bytes(cgroups=tmp_path / "cgroup", own=own) == LIMIT_BYTES


@pytest.mark.parametrize("groups", ["0::/\n", "4:memory:/\n", "", None])
def test_without_a_limit_it_is_the_machines(groups: str | None, tmp_path: Path) -> None:
    if groups is not None:
        (tmp_path / "own").write_text(groups)
    group(tmp_path / "cgroup" / "memory", "memory.limit_in_bytes", 9223372036854771712)
    assert memory_bytes(cgroups=tmp_path / "cgroup", own=tmp_path / "own") == MACHINE_BYTES
