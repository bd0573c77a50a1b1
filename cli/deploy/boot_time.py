"""How long a VM takes from its creation to a worker that takes tasks, by phase, and how long it may take.

A machine answers `PROBE`, a shell script; gcloud carries it to a VM. What is made of the answer is pure.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lowtide.tasks.errors import LowtideError

INSTALL = "gcloud is not installed: https://cloud.google.com/sdk/docs/install"

PROBE = r"""
command -v curl >/dev/null || echo lacks=curl
date +now=%s.%N
sed 's/ .*//; s/^/uptime=/' /proc/uptime
systemctl show --property=UserspaceTimestampMonotonic
for unit in nvidia-persistenced docker lowtide-worker; do
  systemctl show "$unit.service" --property=InactiveExitTimestampMonotonic \
    --property=ActiveEnterTimestampMonotonic --property=ExecMainStartTimestampMonotonic --property=NRestarts |
    sed "s/^/$unit./"
done
echo "healthz=$(curl --silent --noproxy '*' --max-time 10 http://127.0.0.1:{port}/healthz)"
"""
"""Answered by lines of `name=value`. What a machine has not is missing, or 0."""


class NoBootTime(LowtideError):
    """Raised when a machine does not tell how it booted: what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPhase:
    """One step of a boot. `budget_s`: so long it may take; docs/deploy.md says where the figure comes from."""

    name: str
    ends: str
    budget_s: float


PHASES = (
    BootPhase(name="machine", ends="the kernel starts", budget_s=15),
    BootPhase(name="kernel", ends="systemd starts", budget_s=5),
    BootPhase(name="driver", ends="nvidia-persistenced runs", budget_s=5),
    BootPhase(name="docker", ends="Docker runs", budget_s=10),
    BootPhase(name="cloud-init", ends="the worker's unit begins", budget_s=5),
    BootPhase(name="prepare", ends="Redis' password, and an image that the disk lacks, are there", budget_s=3),
    BootPhase(name="container", ends="the worker's process begins", budget_s=3),
    BootPhase(name="imports", ends="Python has its packages", budget_s=20),
    BootPhase(name="redis", ends="Redis has answered", budget_s=1),
    BootPhase(name="weights", ends="the models are on the device", budget_s=10),
    BootPhase(name="warm-up", ends="their first batches have run", budget_s=5),
    BootPhase(name="ready", ends="tasks are taken", budget_s=2),
)
"""In the order in which they end on a VM that is as it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTime:
    """What a phase took of the whole: nothing, if it ended before those that come first."""

    phase: BootPhase
    took_s: float

    @property
    def is_over(self) -> bool:
        """Longer than it may take."""
        return self.took_s > self.phase.budget_s


@dataclass(frozen=True, slots=True, kw_only=True)
class BootTime:
    """The phases that are known. `note`: why those of the machine are not."""

    phases: tuple[PhaseTime, ...]
    note: str = ""

    @property
    def took_s(self) -> float:
        """All together."""
        return sum(one.took_s for one in self.phases)

    @property
    def budget_s(self) -> float:
        """What the phases that are known may take."""
        return sum(one.phase.budget_s for one in self.phases)

    @property
    def is_over(self) -> bool:
        """Whether any phase is."""
        return any(one.is_over for one in self.phases)

    def to_wire(self) -> dict[str, Any]:
        """JSON-ready."""
        phases = [
            {"name": one.phase.name, "took_s": round(one.took_s, 3), "budget_s": one.phase.budget_s}
            for one in self.phases
        ]
        return {"phases": phases, "took_s": round(self.took_s, 3), "budget_s": self.budget_s, "note": self.note}


def here(*, port: int) -> BootTime:
    """Of the worker on this machine. Raises NoBootTime."""
    done = subprocess.run(["/bin/sh", "-c", PROBE.format(port=port)], capture_output=True, text=True, check=False)
    return boot_time_of(done.stdout, port=port)


def of_vm(vm: str, *, zone: str, project: str | None, port: int) -> BootTime:
    """Of the worker on a VM. Raises NoBootTime."""
    if shutil.which("gcloud") is None:
        raise NoBootTime(INSTALL)
    there = [vm, f"--zone={zone}", *([f"--project={project}"] if project else [])]
    created = _gcloud("describe", "instances", "describe", *there, "--format=value(creationTimestamp)")
    answer = _gcloud("ssh", "ssh", *there, "--tunnel-through-iap", "--quiet", f"--command={PROBE.format(port=port)}")
    return boot_time_of(answer, port=port, created_at=datetime.fromisoformat(created.strip()).timestamp())


def _gcloud(what: str, *arguments: str) -> str:
    done = subprocess.run(["gcloud", "compute", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoBootTime(f"gcloud compute {what} failed: {' '.join(done.stderr.split())}")
    return done.stdout


def boot_time_of(answer: str, *, port: int, created_at: float | None = None) -> BootTime:
    """Of a machine that answered `PROBE` so, and was created then, Unix seconds. Pure. Raises NoBootTime."""
    said = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
    if lacks := said.get("lacks"):
        raise NoBootTime(f"that machine has no {lacks}, by which its worker is asked: install it")
    start = _start(said.get("healthz", ""), port=port)
    restarts = int(said.get("lowtide-worker.NRestarts") or 0)
    if not _unit(said, "lowtide-worker.ExecMainStartTimestampMonotonic"):
        note = "no unit lowtide-worker has run here: the worker's own phases alone"
    elif restarts:
        note = f"the worker was started again {restarts} times since this machine booted: its last start alone"
    else:
        kernel_at = float(said["now"]) - float(said["uptime"])
        created = {} if created_at is None else {"machine": kernel_at}
        ends = {**created, **_machine(said, kernel_at), "container": start["process"], **_worker(start)}
        return BootTime(phases=tuple(_phases(kernel_at if created_at is None else created_at, ends)))
    return BootTime(phases=tuple(_phases(start["process"], _worker(start))), note=note)


def _start(healthz: str, *, port: int) -> Mapping[str, float]:
    """What a worker says of its start, by /healthz."""
    try:
        start: Mapping[str, float] = json.loads(healthz)["start"]
        is_ready = "ready" in start
    except (ValueError, KeyError, TypeError) as error:
        raise NoBootTime(
            f"no worker answers at port {port} of that machine: wait until it has its models; one that was started by "
            f"hand needs LOWTIDE_HEALTH_PORT={port}, or name its port by --port"
        ) from error
    if not is_ready:
        raise NoBootTime("the worker has its models, and takes no tasks yet: wait a little, or see in its log why")
    return start


def _machine(said: Mapping[str, str], kernel_at: float) -> dict[str, float]:
    """When each phase of the machine ended, Unix seconds."""
    ends = {
        "kernel": _unit(said, "UserspaceTimestampMonotonic"),
        "driver": _unit(said, "nvidia-persistenced.ActiveEnterTimestampMonotonic"),
        "docker": _unit(said, "docker.ActiveEnterTimestampMonotonic"),
        "cloud-init": _unit(said, "lowtide-worker.InactiveExitTimestampMonotonic"),
        "prepare": _unit(said, "lowtide-worker.ExecMainStartTimestampMonotonic"),
    }
    return {name: kernel_at + end_s for name, end_s in ends.items() if end_s}


def _unit(said: Mapping[str, str], name: str) -> float:
    """Seconds since the kernel started; 0: never."""
    return int(said.get(name) or 0) / 1e6


def _worker(start: Mapping[str, float]) -> dict[str, float]:
    """When each phase of the worker ended, Unix seconds."""
    return {
        "imports": start["imports"],
        "redis": start["redis"],
        "weights": start["models"] - start["warm_up_s"],
        "warm-up": start["models"],
        "ready": start["ready"],
    }


def _phases(began_at: float, ends: Mapping[str, float]) -> Iterator[PhaseTime]:
    at = began_at
    for phase in PHASES:
        if (end := ends.get(phase.name)) is not None:
            yield PhaseTime(phase=phase, took_s=max(0.0, end - at))
            at = max(at, end)


def table(boot_time: BootTime) -> Sequence[str]:
    """As a person wants to see it."""
    rows = [
        (one.phase.name, one.took_s, one.phase.budget_s, one.phase.ends + (", OVER BUDGET" if one.is_over else ""))
        for one in boot_time.phases
    ]
    rows.append(("together", boot_time.took_s, boot_time.budget_s, ""))
    lines = [f"{name:<12}{took_s:>8.1f} s{budget_s:>8.0f} s  {ends}".rstrip() for name, took_s, budget_s, ends in rows]
    return [f"{'phase':<12}{'took':>8}  {'budget':>8}    until", *lines]
