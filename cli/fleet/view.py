"""A look of `lowtide status`, to look at. Pure."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lowtide.autoscaling.signal.signal import Work
from lowtide.autoscaling.signal.snapshot import Snapshot
from lowtide.cli.answers.progress import rounded
from lowtide.cli.fleet.status_report import Look, StatusReport, Waiting, state_of
from lowtide.cli.terminal import counted, shown
from lowtide.tasks.redis.registry import by_name, name_of


def view(look: Look) -> RenderableType:
    """As much as there is to see."""
    if isinstance(look, Waiting):
        return _text(f"Fleet {look.fleet}: waiting for Redis, which has not answered for {_away(look)}")
    snapshot = look.snapshot
    bridges = len(snapshot.bridge_statuses)
    lines = [
        f"Fleet {look.fleet}: {_workers_counted(snapshot)}, {counted(bridges, 'bridge')}",
        f"Pub/Sub: {_pubsub(look)}",
        *(f"Pub/Sub refuses to be pulled: {name}: {why}" for name, why in snapshot.bridges.refused.items()),
        f"Outstanding: {counted(look.work.requests, 'request')}, {_device_time(look.work)}, "
        f"{counted(snapshot.backlog.chunks, 'chunk')} in flight, {_oldest(snapshot)}",
        f"Recommended size {look.reason}",
    ]
    if snapshot.backlog.scheduled:
        lines.insert(-1, f"Scheduled: {snapshot.backlog.scheduled:,} tasks that are not due yet, and no work so far")
    if look.redis.why:
        lines.insert(0, f"These figures are old: Redis has not answered for {_away(look)}")
    unread: list[RenderableType] = [_unread(look), ""] if look.unread else []
    workers_lines = [_workers(snapshot.workers), *_suspect(snapshot.workers), *_retrying(snapshot.workers)]
    return Lines(*map(_text, lines), "", _backlog(look), "", *unread, *workers_lines)


def _workers_counted(snapshot: Snapshot) -> str:
    suspects = snapshot.suspects
    return counted(len(snapshot.workers) - suspects, "worker") + (f" beside {suspects:,} suspect" if suspects else "")


def _device_time(work: Work) -> str:
    beside = f" (and {work.suspects_s:,.0f} s for the machines of suspect workers)" if work.suspects_s else ""
    return f"{work.gpu_seconds:.1f} s of device time{beside}"


def _text(said: str) -> Text:
    """Names are others' words, and rich obeys escapes in them."""
    return Text(shown(said))


def _away(look: Look) -> str:
    return f"{look.redis.age_s:.0f} s: {look.redis.why}"


def _oldest(snapshot: Snapshot) -> str:
    return "none waits" if snapshot.oldest_s is None else f"the oldest {snapshot.oldest_s:.0f} s old"


def _pubsub(report: StatusReport) -> str:
    bridges, source = report.snapshot.bridges, report.pubsub
    content = f" with {bridges.content_bytes / 1e6:,.1f} MB of content in Redis" if bridges.content_bytes else ""
    have = f"the bridges have {bridges.leased:,}{content}, {bridges.at_risk} at risk of expiring"
    if report.undelivered is None:
        return f"{have}; how many messages wait there is not known: {source.why}"
    # The metric is the older figure: the bridges may have more than it has seen.
    between = ", of which " if bridges.leased <= report.undelivered else "; "
    away = f"; now it can't be read: {source.why}" if source.why else ""
    waiting = f"{counted(report.undelivered, 'message')} waiting"
    return f"{waiting}{between}{have}; by Monitoring, {source.age_s:.0f} s old{away}"


def _backlog(report: StatusReport) -> Table:
    table = Table("Model", title="Requests in Redis", title_justify="left")
    states = ("queued", "reserved", "running", "left_behind")
    for state in states:
        table.add_column(state.replace("_", " "), justify="right")
    table.add_column("s each", justify="right")
    for model, backlog in report.backlog.items():
        rate_s = report.snapshot.rates_s.get(model)
        counts = [f"{backlog[state]:,}" for state in states]
        table.add_row(_text(model), *counts, "not measured" if rate_s is None else f"{rate_s:.4g}")
    return table


def _unread(report: StatusReport) -> Table:
    table = Table("List", "Why", title="Tasks that nobody reads", title_justify="left")
    for heading in ("tasks", "oldest, s"):
        table.add_column(heading, justify="right")
    for one in report.unread:
        oldest = "not known" if one.oldest_s is None else f"{one.oldest_s:,.0f}"
        table.add_row(_text(one.name), _text(f"{one.why}: {one.remedy}"), f"{one.tasks:,}", oldest)
    return table


def _workers(statuses: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    if not statuses:
        return Text("No worker is alive.")
    table = Table("Worker", "State", title="Workers", title_justify="left")
    for heading in ("in process", "done", "requests/s of the device"):
        table.add_column(heading, justify="right")
    for incarnation, status in by_name(statuses):
        rates = [f"{model} {rounded(1 / rate_s)}" for model, rate_s in status.get("rates", {}).items() if rate_s > 0]
        done = sum(status.get("done", {}).values())
        table.add_row(
            _text(name_of(incarnation, status)),
            state_of(status),
            str(status.get("in_process", 0)),
            f"{done:,}",
            _text(", ".join(rates)),
        )
    return table


def _suspect(statuses: Mapping[str, Mapping[str, Any]]) -> list[Text]:
    told = {name_of(name, status): status["suspect"] for name, status in by_name(statuses) if status.get("suspect")}
    return [_text(f"{name} takes one task at a time, after pauses: {why}") for name, why in told.items()]


def _retrying(statuses: Mapping[str, Mapping[str, Any]]) -> list[Text]:
    told = {name_of(name, status): status["retrying"] for name, status in by_name(statuses) if status.get("retrying")}
    return [
        _text(f"{name}: {one['count']:,} tries failed and come again, the last {one['ago_s']:.0f} s ago: {one['why']}")
        for name, one in told.items()
    ]
