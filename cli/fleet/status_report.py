"""What `lowtide status` says: gathered from a snapshot, and as JSON. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lowtide.autoscaling.policy.decide import Decision, GroupState, Histories, SignalPoint, decide
from lowtide.autoscaling.policy.policy import Policy
from lowtide.autoscaling.signal.backlog import State
from lowtide.autoscaling.signal.last_value import LastValue
from lowtide.autoscaling.signal.signal import Work
from lowtide.autoscaling.signal.snapshot import Snapshot
from lowtide.cli.fleet.unread import UnreadList
from lowtide.config.metrics import GPU_SECONDS_OUTSTANDING
from lowtide.config.redact import redacted
from lowtide.tasks.redis.registry import by_name, name_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAge:
    """How current a source of figures is. `known`: it was read at least once; `age_s`: how old what is known is,
    or since the first try; `why`: why it can't be read now, on one line.
    """

    known: bool
    age_s: float
    why: str | None

    @classmethod
    def of(cls, held: LastValue[Any]) -> "SourceAge":
        """As it is now."""
        known = held.value is not None
        why = "no answer so far" if not known and held.why is None else held.why
        return cls(known=known, age_s=held.age_s, why=why and redacted(" ".join(why.split())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Redis was never read: nothing is known of the fleet, and zeros would be lies."""

    fleet: str
    redis: SourceAge
    pubsub: SourceAge


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """A snapshot, the work it amounts to, and the size that the policy would give the fleet.

    `undelivered`: what Pub/Sub's own metric says, None when it was never read. `remembers`: the decision knows what was
    needed as far back as the policy looks. `unread`: lists of tasks for which there is no worker; no part of the work.
    """

    fleet: str
    snapshot: Snapshot
    undelivered: int | None
    work: Work
    decision: Decision
    remembers: bool
    redis: SourceAge
    pubsub: SourceAge
    unread: tuple[UnreadList, ...]

    @property
    def backlog(self) -> dict[str, dict[str, int]]:
        """Model → requests in Redis, by state. What is held runs, or waits for that (`reserved`). Redis can't tell
        the two apart: what runs is what each worker said of itself in the last 5 s.
        """
        said = Counter[str]()
        for status in self.snapshot.workers.values():
            said.update(status.get("running", {}))
        requests = self.snapshot.backlog.requests
        found = {}
        for model in dict.fromkeys(model for model, _ in requests):
            held = requests[model, State.HELD]
            running = min(held, said[model])
            states = {state.value: requests[model, state] for state in State}
            found[model] = {**states, "reserved": held - running, "running": running}
        return found

    @property
    def reason(self) -> str:
        """Why the size is what it is."""
        return self.decision.reason + ("" if self.remembers else "; without the group's memory")


Look = StatusReport | Waiting


def recommended(policy: Policy, *, signals: Histories | None, work: Work, group: GroupState, now: float) -> Decision:
    """The size that the policy would give the fleet. `signals`: what Cloud Monitoring has of the policy's signals,
    None: it can't be read. The fleet's own is known better, from its `work`. `group`: the size of the fleet, and what
    was recommended before.
    """
    histories = {**(signals or {}), GPU_SECONDS_OUTSTANDING.type: [[SignalPoint(at=now, value=work.signal_s)]]}
    if signals is None:  # what we can't read need not be missing for the group: it would seem to hold its size
        policy = replace(policy, signals=tuple(one for one in policy.signals if one.metric in histories))
    return decide(policy, histories=histories, group=group, now=now)


def to_wire(look: Look) -> dict[str, Any]:
    """JSON-ready. Times in seconds."""
    return {"fleet": look.fleet, **_sources(look), **(_figures(look) if isinstance(look, StatusReport) else {})}


def _sources(look: Look) -> dict[str, Any]:
    sources = {"redis": look.redis, "pubsub": look.pubsub}
    return {
        "source_age_s": {name: source.age_s if source.known else None for name, source in sources.items()},
        "unreadable": {name: source.why for name, source in sources.items() if source.why},
    }


def _figures(report: StatusReport) -> dict[str, Any]:
    snapshot, bridges = report.snapshot, report.snapshot.bridges
    return {
        "at": snapshot.at,
        "backlog": report.backlog,
        "chunks_in_flight": snapshot.backlog.chunks,
        "scheduled": snapshot.backlog.scheduled,
        "pubsub_undelivered": report.undelivered,
        "pubsub_leased": bridges.leased,
        "content_bytes": bridges.content_bytes,
        "oldest_s": snapshot.oldest_s,
        "at_risk": bridges.at_risk,
        "ignored": dict(bridges.ignored),
        "refused": dict(bridges.refused),
        "seconds_per_request": dict(snapshot.rates_s),
        "workers": [
            {
                "name": name_of(incarnation, status),
                "state": state_of(status),
                "deaf_to": status.get("deaf_to", []),
                "suspect": status.get("suspect"),
                "in_process": status.get("in_process", 0),
                "rates": status.get("rates", {}),
                "done": status.get("done", {}),
                "retrying": status.get("retrying"),
            }
            for incarnation, status in by_name(snapshot.workers)
        ],
        "unread": [asdict(one) for one in report.unread],
        "bridges": sorted(snapshot.bridge_statuses),
        "requests_outstanding": report.work.requests,
        "gpu_seconds_outstanding": report.work.signal_s,
        "recommendation": {"size": report.decision.recommended_size, "reason": report.reason},
    }


def state_of(status: Mapping[str, Any]) -> str:
    """The state of a worker that has this status. Suspect: it fails what others answer. Deaf: remote control has
    cancelled queues of its models.
    """
    if status.get("draining"):
        return "draining"
    if status.get("suspect"):
        return "suspect"
    if status.get("deaf_to"):
        return "deaf"
    return "busy" if status.get("busy") else "idle"
