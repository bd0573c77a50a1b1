import os
import platform
import subprocess
import sys
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


COUNT = """
import resource, sys
from threading import Thread
from lowtide.config.process.memory import keep_freed
if sys.argv[1] == "kept":
    keep_freed()
def work():
    for _ in range(20):
        buffers = [bytes(200_000) for _ in range(20)]
        buffers.clear()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for thread in [Thread(target=work) for _ in range(4)]:
    thread.start()
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Page faults of 80 times 4 MB, which are a thousand pages."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_what_is_freed_is_kept_for_what_comes_next() -> None:
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", COUNT, word], check=True, capture_output=True).stdout)
        for word in ("kept", "given back")
    )
    assert kept < 5_000 < 40_000 < given_back
