"""`Group`: VMs of this machine under an autoscaling policy, as a managed instance group of Spot VMs is."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from lowtide.autoscaling.export.monitoring import Monitoring
from lowtide.autoscaling.policy import decide as autoscaler
from lowtide.autoscaling.policy.policy import Policy
from lowtide.autoscaling.signal.last_value import SourceUnreadable
from lowtide.config.process.loop import Periodic
from lowtide.config.process.outage import Outage
from lowtide.local.vm import NOTICE_S, Launch, Vm

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often it decides. The real one takes about a minute."""
BACK_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The group changed. `at`: seconds since 1970; `target`: the size that was decided; `booting` and `running` VMs."""

    at: float
    target: int
    booting: int
    running: int
    reason: str


class Group:
    """Reads the signal from Cloud Monitoring as the real one does, decides, and makes and deletes VMs.

    `boot_s`: from making a VM to its worker's start. `capacity`: how many VMs of this kind there are to be had now; a
    group that gets fewer than it wants (a stock-out) keeps trying. `preempt_every_s`: so often, of the
    time that any runs, the VM that runs longest is taken away; 0: never. `on_event` is told of every change. It decides
    every `look_s`; `notice_s`: from a notice to the end of a VM.
    """

    def __init__(
        self,
        policy: Policy,
        monitoring: Monitoring,
        *,
        launch: Launch,
        boot_s: float = 0.0,
        capacity: Callable[[], int] = lambda: 1_000_000,
        preempt_every_s: float = 0.0,
        on_event: Callable[[Event], None] = lambda event: None,
        look_s: float = LOOK_S,
        notice_s: float = NOTICE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._monitoring = monitoring
        self._launch = launch
        self._boot_s = boot_s
        self._capacity = capacity
        self._preempt_every_s = preempt_every_s
        self._notice_s = notice_s
        self._clock = clock
        self._preempted_s = clock()
        self._on_event = on_event
        self._state = autoscaler.GroupState()
        self._histories: autoscaler.Histories = {}
        """As last read: what can't be read is missing only when it is stale."""
        self._vms: list[Vm] = []
        self._made = 0
        self._last: tuple[int, int, int] = (0, 0, 0)
        self._outage = Outage("Cloud Monitoring can't be read: the group keeps its size")
        self._periodic = Periodic("instance-group", self._turn, pause_s=lambda: look_s)

    @property
    def vms(self) -> tuple[Vm, ...]:
        """Those that count: neither deleted nor preempted."""
        return tuple(vm for vm in self._vms if not vm.is_ending)

    def start(self) -> None:
        """Decide from now on."""
        self._periodic.start()

    def stop(self) -> None:
        """Delete every VM and wait until they are gone. Idempotent."""
        self._periodic.stop()
        for vm in self._vms:
            vm.delete()
        for vm in self._vms:
            vm.join()
        self._monitoring.close()

    def _turn(self) -> None:
        now = time.time()
        try:
            self._histories = {
                signal.metric: self._monitoring.series(signal.query, back_s=BACK_S) for signal in self._policy.signals
            }
        except SourceUnreadable as error:
            self._outage.failed(error)
        else:
            self._outage.over()
        decision = autoscaler.decide(self._policy, histories=self._histories, group=self._state, now=now)
        self._state = decision.group
        self._vms = [vm for vm in self._vms if vm.is_there]
        self._follow(decision.size)
        self._tell(now, decision.size, decision.reason)
        if vm := self._preempt():
            self._tell(now, decision.size, f"{decision.size}: {vm.name} is preempted")

    def _follow(self, size: int) -> None:
        """Make what is missing, delete what is too much: first what is not running yet, as the real one does."""
        there = sorted(self.vms, key=lambda vm: not vm.is_booting)
        for vm in there[: max(0, len(there) - size)]:
            vm.delete()
        # One that is ending has its machine until it is gone.
        for _ in range(max(0, min(size - len(there), self._capacity() - len(self._vms)))):
            self._made += 1
            vm = Vm(f"vm-{self._made}", launch=self._launch, boot_s=self._boot_s, notice_s=self._notice_s)
            self._vms.append(vm)
            vm.start()

    def _preempt(self) -> Vm | None:
        """The one whose time has come, if any has. No time passes while none runs."""
        now_s = self._clock()
        running = [vm for vm in self.vms if not vm.is_booting]
        if not running:
            self._preempted_s = now_s
        if not (self._preempt_every_s and running) or now_s - self._preempted_s < self._preempt_every_s:
            return None
        self._preempted_s = now_s
        running[0].preempt()
        return running[0]

    def _tell(self, now: float, size: int, reason: str) -> None:
        booting = sum(vm.is_booting for vm in self.vms)
        state = (size, booting, len(self.vms) - booting)
        if state != self._last:
            self._last = state
            self._on_event(Event(at=now, target=size, booting=booting, running=state[2], reason=reason))
