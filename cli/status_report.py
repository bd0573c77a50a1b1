"""What `lowtide status` says: gathered from a snapshot, as JSON or to look at. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lowtide.autoscaling.backlog import State
from lowtide.autoscaling.decide import Decision, Group, Point, decide
from lowtide.autoscaling.fleet_policy import policy_of
from lowtide.autoscaling.signal import Work, outstanding
from lowtide.autoscaling.snapshot import Snapshot
from lowtide.config import Settings
from lowtide.config.metrics import GPU_SECONDS_OUTSTANDING


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A snapshot, the work it amounts to, and the size that the policy would give the fleet."""

    fleet: str
    snapshot: Snapshot
    work: Work
    decision: Decision

    @property
    def oldest_s(self) -> float | None:
        """Age of the oldest request that a bridge has in Redis, seconds."""
        oldest_at = self.snapshot.bridges.oldest_at
        return None if oldest_at is None else max(0.0, self.snapshot.at - oldest_at)


def report(snapshot: Snapshot, *, settings: Settings, group: Group) -> Report:
    """`group`: the size of the fleet, and what was recommended before."""
    work = outstanding(undelivered=None, backlog=snapshot.backlog, bridges=snapshot.bridges, rates_s=snapshot.rates_s)
    histories = {GPU_SECONDS_OUTSTANDING.type: [[Point(at=snapshot.at, value=work.gpu_seconds)]]}
    decision = decide(policy_of(settings), histories=histories, group=group, now=snapshot.at)
    return Report(fleet=settings.fleet, snapshot=snapshot, work=work, decision=decision)


def to_wire(report: Report) -> dict[str, Any]:
    """JSON-ready. Times in seconds."""
    snapshot, bridges = report.snapshot, report.snapshot.bridges
    return {
        "fleet": report.fleet,
        "at": snapshot.at,
        "backlog": {
            model: {state.value: snapshot.backlog.requests[model, state] for state in State}
            for model in dict.fromkeys(model for model, _ in snapshot.backlog.requests)
        },
        "chunks_in_flight": snapshot.backlog.chunks,
        "pubsub_leased": bridges.leased,
        "oldest_s": report.oldest_s,
        "at_risk": bridges.at_risk,
        "seconds_per_request": dict(snapshot.rates_s),
        "workers": [
            {
                "name": name,
                "state": _state(word),
                "in_process": word.get("in_process", 0),
                "rates": word.get("rates", {}),
                "done": word.get("done", {}),
            }
            for name, word in sorted(snapshot.workers.items())
        ],
        "bridges": sorted(snapshot.bridge_words),
        "requests_outstanding": report.work.requests,
        "gpu_seconds_outstanding": report.work.gpu_seconds,
        "recommendation": {"size": report.decision.recommended_size, "reason": report.decision.reason},
    }


def view(report: Report) -> RenderableType:
    """To look at."""
    snapshot, bridges = report.snapshot, report.snapshot.bridges
    oldest = "none" if report.oldest_s is None else f"{report.oldest_s:.0f} s"
    lines = [
        f"Fleet {report.fleet}: {len(snapshot.workers)} workers, {len(snapshot.bridge_words)} bridges",
        f"Pub/Sub: the bridges have {bridges.leased} messages; oldest {oldest}, {bridges.at_risk} at risk of expiring",
        f"Outstanding: {report.work.requests} requests, {report.work.gpu_seconds:.1f} s of device time, "
        f"{snapshot.backlog.chunks} chunks in flight",
        f"Recommended size {report.decision.reason}",
    ]
    return Lines(*map(Text, lines), "", _backlog(report), "", _workers(snapshot.workers))


def _backlog(report: Report) -> Table:
    table = Table("Model", title="Requests in Redis", title_justify="left")
    for heading in ("queued", "held", "left behind", "s each"):
        table.add_column(heading, justify="right")
    backlog = report.snapshot.backlog.requests
    for model in dict.fromkeys(model for model, _ in backlog):
        rate_s = report.snapshot.rates_s.get(model)
        counts = [f"{backlog[model, state]:,}" for state in State]
        table.add_row(model, *counts, "not measured" if rate_s is None else f"{rate_s:.4g}")
    return table


def _workers(words: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    if not words:
        return Text("No worker is alive.")
    table = Table("Worker", "State", title="Workers", title_justify="left")
    for heading in ("in process", "done", "requests/s of the device"):
        table.add_column(heading, justify="right")
    for name, word in sorted(words.items()):
        rates = [f"{model} {1 / rate_s:,.0f}" for model, rate_s in word.get("rates", {}).items() if rate_s > 0]
        done = sum(word.get("done", {}).values())
        table.add_row(name, _state(word), str(word.get("in_process", 0)), f"{done:,}", ", ".join(rates))
    return table


def _state(word: Mapping[str, Any]) -> str:
    return "busy" if word.get("busy") else "idle"
