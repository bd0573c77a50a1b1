import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from lowtide.config import SettingsError, load_settings
from lowtide.workers.slot import claimed_slot

CHILD = "r, w = os.pipe(); os.fork() or (os.write(w, b'x'), time.sleep(10), os._exit(0)); os.read(r, 1)"
"""One that outlives its parent, which waits until the child has begun."""


def test_workers_of_one_machine_get_different_slots_and_a_restarted_one_its_own(tmp_path: Path) -> None:
    settings = load_settings()
    with claimed_slot(settings, folder=tmp_path) as first:
        with claimed_slot(settings, folder=tmp_path) as second:
            assert (first.name, second.name) == ("0", "1")
        with claimed_slot(settings, folder=tmp_path) as again:
            assert again.name == "1"


def test_workers_of_different_fleets_do_not_meet(tmp_path: Path) -> None:
    with (
        claimed_slot(load_settings(), folder=tmp_path),
        claimed_slot(load_settings(prefix="b"), folder=tmp_path) as slot,
    ):
        assert slot.name == "0"


def test_a_slot_that_is_taken_is_refused_with_advice(tmp_path: Path) -> None:
    settings = load_settings(worker_slot="7")
    with (
        claimed_slot(settings, folder=tmp_path),
        pytest.raises(SettingsError, match="slot 7 .* already"),
        claimed_slot(settings, folder=tmp_path),
    ):
        pass


def test_a_worker_that_ends_leaves_no_file_and_one_that_waited_for_it_locks_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(worker_slot="0")
    flock, first = fcntl.flock, claimed_slot(settings, folder=tmp_path)
    first.__enter__()

    def ends_meanwhile(*arguments: object) -> None:
        if list(tmp_path.iterdir()):
            monkeypatch.setattr(fcntl, "flock", flock)
            first.__exit__(None, None, None)
            assert list(tmp_path.iterdir()) == []
        flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", ends_meanwhile)
    with (
        claimed_slot(settings, folder=tmp_path),
        pytest.raises(SettingsError, match="already"),
        claimed_slot(settings, folder=tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("then", ["", CHILD], ids=["alone", "with a child"])
def test_a_killed_worker_leaves_its_slot_and_says_who_it_was(tmp_path: Path, then: str) -> None:
    code = f"""
import os, time
from pathlib import Path
from lowtide.config import load_settings
from lowtide.workers.slot import claimed_slot
with claimed_slot(load_settings(), folder=Path({str(tmp_path)!r})) as slot:
    slot.note("0f")
    {then}
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code])

    with claimed_slot(load_settings(), folder=tmp_path) as slot:
        assert (slot.name, slot.predecessor) == ("0", "0f")
        slot.note("0e")
        assert [path.read_text().split()[0] for path in tmp_path.iterdir()] == ["0e"]
    with claimed_slot(load_settings(), folder=tmp_path) as slot:
        assert slot.predecessor is None, "one that ends in order leaves nothing"


def test_what_else_is_in_the_file_is_nobody_s(tmp_path: Path) -> None:
    with claimed_slot(load_settings(), folder=tmp_path) as slot:
        slot.note("../../etc/passwd")
        [path] = tmp_path.iterdir()
        text = path.read_text()
    path.write_text(text)
    with claimed_slot(load_settings(), folder=tmp_path) as slot:
        assert slot.predecessor is None


def test_the_name_of_the_lock_says_nothing_of_the_password(tmp_path: Path) -> None:
    names = set()
    for password in ("hunter2", "hunter3"):
        with claimed_slot(load_settings(redis_url=f"redis://:{password}@host/0"), folder=tmp_path):
            names = {path.name for path in tmp_path.iterdir()}

    assert len(names) == 1


def test_who_lived_on_another_machine_may_still_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with claimed_slot(load_settings(), folder=tmp_path) as slot:
        slot.note("0f")
        [path] = tmp_path.iterdir()
        text = path.read_text()
    path.write_text(text)
    with claimed_slot(load_settings(), folder=tmp_path) as slot:
        assert slot.predecessor == "0f"
    path.write_text(text)
    monkeypatch.setattr("uuid.getnode", lambda: 1)
    with claimed_slot(load_settings(), folder=tmp_path) as slot:
        assert slot.predecessor is None
