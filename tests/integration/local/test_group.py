"""A group of processes that sleep, under the real policy and a real Cloud Monitoring: only their number matters."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lowtide.autoscaling.export.monitoring import Monitoring
from lowtide.autoscaling.export.samples import Sample
from lowtide.autoscaling.policy.from_settings import policy_of
from lowtide.config import load_settings
from lowtide.config.metrics import GPU_SECONDS_OUTSTANDING
from lowtide.local.group import Event, Group
from lowtide.local.monitoring.server import MonitoringServer
from lowtide.local.process import ChildProcess
from lowtide.local.vm import Vm
from tests.clock import Clock
from tests.waiting import until

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
BY_NOTICE = """
import sys, time, urllib.request
url = sys.argv[1] + "/computeMetadata/v1/instance/preempted?wait_for_change=true&last_etag=1"
print(urllib.request.urlopen(urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})).read())
"""

DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


class Stage:
    """A Cloud Monitoring, a writer of the signal, and a group that reads it."""

    def __init__(self, folder: Path, server: MonitoringServer) -> None:
        self.events: list[Event] = []
        self._reached = 0
        self.clock = Clock()
        self.capacity = 10
        self.folder = folder
        self.command: Callable[[str], list[str]] = lambda metadata_url: SLEEP
        self.settings = load_settings(
            project="p",
            monitoring_host=server.address,
            fleet_work_s=1.0,
            fleet_messages=0,
            fleet_stabilization_s=0,
            fleet_max=8,
        )
        self._writer = Monitoring(self.settings)
        self._at_s = time.time() - 600
        self.group: Group | None = None

    def start(self, *, boot_s: float = 0.0, preempt_every_s: float = 0.0, notice_s: float = 30.0) -> Group:
        self.group = Group(
            policy_of(self.settings),
            Monitoring(self.settings),
            launch=self._launch,
            boot_s=boot_s,
            capacity=lambda: self.capacity,
            preempt_every_s=preempt_every_s,
            on_event=self.events.append,
            look_s=0.1,
            notice_s=notice_s,
            clock=self.clock,
        )
        self.group.start()
        return self.group

    def start_deaf(self, *, notice_s: float) -> Vm:
        """A group whose first VM hears no SIGTERM. Those that follow it do: the stage's end would wait for them."""
        commands = iter([[sys.executable, "-c", DEAF]])
        self.command = lambda metadata_url: next(commands, SLEEP)
        self.says(1.0)
        group = self.start(notice_s=notice_s)
        self.reaches(running=1)
        [vm] = group.vms
        log = self.folder / f"{vm.name}.log"
        until(lambda: log.exists() and "deaf" in log.read_text(), what="its worker")
        return vm

    def _launch(self, name: str, metadata_url: str) -> ChildProcess:
        return ChildProcess(name, self.command(metadata_url), env={}, log_path=self.folder / f"{name}.log")

    def says(self, value: float) -> None:
        """The signal is this from now on: points five minutes ago and later would be stale before the test ends."""
        self._at_s = max(self._at_s + 5, time.time() - 200)
        self._writer.write([Sample(metric=GPU_SECONDS_OUTSTANDING, value=value)], at_s=self._at_s)

    def reaches(self, *, running: int, booting: int = 0) -> None:
        """After what it reached before, and if only for a moment."""

        def reached() -> bool:
            states = [(event.running, event.booting) for event in self.events]
            if (running, booting) not in states[self._reached :]:
                return False
            self._reached = states.index((running, booting), self._reached) + 1
            return True

        until(reached, what=f"{running} running and {booting} booting VMs")

    def close(self) -> None:
        self._writer.close()
        if self.group:
            self.group.stop()


@pytest.fixture
def server() -> Iterator[MonitoringServer]:
    with MonitoringServer() as server:
        yield server


@pytest.fixture
def stage(tmp_path: Path, server: MonitoringServer) -> Iterator[Stage]:
    stage = Stage(tmp_path, server)
    yield stage
    stage.close()


def test_the_group_follows_the_signal_up_and_down_to_zero(stage: Stage) -> None:
    stage.says(2.5)
    group = stage.start()
    stage.reaches(running=3)
    stage.says(0.5)
    stage.reaches(running=1)
    stage.says(0.0)
    stage.reaches(running=0)
    assert group.vms == ()
    assert "gpu_seconds_outstanding is 0 and asks for 0" in stage.events[-1].reason


def test_a_vm_boots_before_its_worker_runs_and_one_that_boots_goes_first(stage: Stage) -> None:
    stage.says(1.0)
    group = stage.start(boot_s=1.0)
    stage.reaches(running=0, booting=1)
    stage.reaches(running=1)
    [first] = group.vms
    group._boot_s = 600.0  # the next one boots until the test is done with it
    stage.says(2.0)
    stage.reaches(running=1, booting=1)
    stage.says(1.0)
    stage.reaches(running=1)
    assert group.vms == (first,)


def test_a_stock_out_leaves_the_group_smaller_until_there_are_vms_again(stage: Stage) -> None:
    stage.capacity = 1
    stage.says(3.0)
    stage.start()
    stage.reaches(running=1)
    assert stage.events[-1].target == 3
    stage.capacity = 10
    stage.reaches(running=3)


def test_a_vm_that_cannot_be_made_is_tried_again(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    works = stage.command

    def refuses(metadata_url: str) -> list[str]:
        stage.command = works
        raise OSError("no room for another process")

    stage.command = refuses
    stage.says(1.0)
    stage.start()
    stage.reaches(running=1)
    assert "no room for another process" in caplog.text


def test_a_preempted_vm_hears_of_it_and_another_takes_its_place(stage: Stage) -> None:
    stage.command = lambda metadata_url: [sys.executable, "-c", BY_NOTICE, metadata_url]
    stage.says(1.0)
    group = stage.start()
    stage.reaches(running=1)
    [vm] = group.vms
    vm.preempt()
    vm.join()
    assert "TRUE" in (stage.folder / f"{vm.name}.log").read_text()
    until(lambda: [one.name for one in group.vms] == ["vm-2"], what="another VM")


def test_a_preempted_vm_is_gone_after_its_notice_whatever_its_worker_does(stage: Stage) -> None:
    vm = stage.start_deaf(notice_s=2.0)
    began_s = time.monotonic()
    vm.preempt()
    vm.join()
    assert time.monotonic() - began_s > 1.5


def test_a_group_that_cant_read_the_signal_keeps_its_size(
    stage: Stage, server: MonitoringServer, caplog: pytest.LogCaptureFixture
) -> None:
    stage.says(2.0)
    group = stage.start()
    stage.reaches(running=2)
    vms = group.vms
    server.stop()
    until(lambda: "can't be read: the group keeps its size" in caplog.text)
    time.sleep(0.5)  # some decisions
    assert group.vms == vms


def test_a_reading_that_fails_is_no_missing_signal(
    stage: Stage, server: MonitoringServer, caplog: pytest.LogCaptureFixture
) -> None:
    stage.says(2.0)
    group = stage.start()
    stage.reaches(running=2)
    server.stop()
    until(lambda: "can't be read" in caplog.text)
    stage.capacity = 1
    group.vms[0].preempt()
    until(lambda: stage.events[-1].running == 1, what="the loss of a VM")
    assert "gpu_seconds_outstanding is 2 and asks for 2" in stage.events[-1].reason


def test_vms_that_are_preempted_every_so_often_are_told_and_replaced(stage: Stage) -> None:
    stage.says(2.0)
    group = stage.start(preempt_every_s=4.0)
    stage.reaches(running=2)
    for left in ({"vm-2", "vm-3"}, {"vm-3", "vm-4"}):
        stage.clock.pass_(4.0)
        until(lambda left=left: {vm.name for vm in group.vms} == left, what="another in its place")
    told = [event for event in stage.events if event.reason.endswith("is preempted")]
    assert [event.reason for event in told[:2]] == ["2: vm-1 is preempted", "2: vm-2 is preempted"]
    assert told[0].running + told[0].booting == 1


def test_no_vm_is_preempted_for_the_time_in_which_none_ran(stage: Stage) -> None:
    stage.says(0.0)
    group = stage.start(preempt_every_s=6.0)
    stage.clock.pass_(7.0)
    until(lambda: group._preempted_s == stage.clock(), what="a look while none runs")
    stage.says(1.0)
    stage.reaches(running=1)
    stage.clock.pass_(5.0)
    time.sleep(0.5)  # some decisions
    assert [vm.name for vm in group.vms] == ["vm-1"]
    stage.clock.pass_(1.0)
    until(lambda: [vm.name for vm in group.vms] == ["vm-2"], what="the next one")


def test_a_vm_that_is_ending_has_its_machine_until_it_is_gone(stage: Stage) -> None:
    stage.capacity = 1
    vm = stage.start_deaf(notice_s=2.0)
    there: list[bool] = []

    def launched(metadata_url: str) -> list[str]:
        there.append(vm.is_there)
        return SLEEP

    stage.command = launched
    vm.preempt()
    until(lambda: there, what="another in its place")
    assert there == [False]
