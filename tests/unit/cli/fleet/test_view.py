"""What a person reads of Pub/Sub, whose own count may be old, held or unknown."""

import pytest
from rich.console import Console

from lowtide.autoscaling.policy.decide import GroupState
from lowtide.autoscaling.policy.from_settings import policy_of
from lowtide.autoscaling.signal.backlog import Backlog, State
from lowtide.autoscaling.signal.snapshot import Snapshot
from lowtide.cli.fleet.status_report import SourceAge, StatusReport, recommended
from lowtide.cli.fleet.unread import UnreadList
from lowtide.cli.fleet.view import view
from lowtide.config import load_settings

KNOWN = SourceAge(known=True, age_s=0.0, why=None)


def read(start: str, *, undelivered: int | None, leased: int, pubsub: SourceAge) -> str:
    snapshot = Snapshot(
        at=1000.0,
        backlog=Backlog(),
        workers={},
        bridge_statuses={"b": {"leased": leased, "oldest_at": 970.0, "at_risk": 2}},
        rates_s={},
    )
    said = shown(snapshot, undelivered=undelivered, pubsub=pubsub)
    return next(line.rstrip() for line in said.splitlines() if line.startswith(start))


def shown(
    snapshot: Snapshot,
    *,
    undelivered: int | None = None,
    pubsub: SourceAge = KNOWN,
    unread: tuple[UnreadList, ...] = (),
) -> str:
    work = snapshot.work(undelivered=undelivered, worker_s=60.0)
    policy = policy_of(load_settings())
    seen = StatusReport(
        fleet="default",
        snapshot=snapshot,
        undelivered=undelivered,
        work=work,
        decision=recommended(policy, signals=None, work=work, group=GroupState(), now=snapshot.at),
        remembers=True,
        redis=KNOWN,
        pubsub=pubsub,
        unread=unread,
    )
    console = Console(width=300)
    with console.capture() as captured:
        console.print(view(seen))
    return str(captured.get())


@pytest.mark.parametrize(
    ("undelivered", "pubsub", "said"),
    [
        (3000, SourceAge(known=True, age_s=75.0, why=None), "3,000 messages waiting, of which {}; {}, 75 s old"),
        (200, SourceAge(known=True, age_s=75.0, why=None), "200 messages waiting; {}; {}, 75 s old"),
        (
            3000,
            SourceAge(known=True, age_s=95.2, why="503 away"),
            "3,000 messages waiting, of which {}; {}, 95 s old; now it can't be read: 503 away",
        ),
        (
            None,
            SourceAge(known=False, age_s=95.0, why="LOWTIDE_PROJECT is not set"),
            "{}; how many messages wait there is not known: LOWTIDE_PROJECT is not set",
        ),
    ],
)
def test_the_count_is_told_with_its_age_or_as_unknown(undelivered: int | None, pubsub: SourceAge, said: str) -> None:
    have = "the bridges have 300, 2 at risk of expiring"
    line = read("Pub/Sub: ", undelivered=undelivered, leased=300, pubsub=pubsub)
    assert line == "Pub/Sub: " + said.format(have, "by Monitoring")


def test_content_that_bridges_have_in_redis_is_told() -> None:
    statuses = {"b": {"leased": 3, "content_bytes": 2_500_000}, "c": {"leased": 1, "content_bytes": 1_000_000}}
    snapshot = Snapshot(at=1.0, backlog=Backlog(), workers={}, bridge_statuses=statuses, rates_s={})
    assert "the bridges have 4 with 3.5 MB of content in Redis, 0 at risk of expiring" in shown(snapshot)


def test_a_subscription_that_refuses_a_bridge_is_named_with_the_reason() -> None:
    statuses = {"b": {"leased": 0, "refused": {"projects/p/subscriptions/urgent": "NOT_FOUND: gone"}}, "older": {}}
    snapshot = Snapshot(at=1.0, backlog=Backlog(scheduled=1), workers={}, bridge_statuses=statuses, rates_s={})
    lines = [line.rstrip() for line in shown(snapshot).splitlines()]
    assert "Pub/Sub refuses to be pulled: projects/p/subscriptions/urgent: NOT_FOUND: gone" in lines
    assert lines.index(next(line for line in lines if line.startswith("Scheduled"))) == 4


def test_the_age_of_the_oldest_is_told() -> None:
    line = read("Outstanding: ", undelivered=None, leased=300, pubsub=SourceAge(known=False, age_s=1.0, why="away"))
    assert line.endswith(", the oldest 30 s old")


def test_a_slow_model_s_rate_is_not_nothing() -> None:
    statuses = {"w": {"rates": {"slow": 2.5, "quick": 0.0004}}}
    said = shown(Snapshot(at=1.0, backlog=Backlog(), workers=statuses, bridge_statuses={}, rates_s={}))
    assert "slow 0.4, quick 2,500" in said


def test_names_are_shown_as_they_are() -> None:
    statuses = {"vm[/x]": {"rates": {"net[int8]": 0.5}}}
    requests = {("net[int8]", state): 0 for state in State}
    snapshot = Snapshot(at=1.0, backlog=Backlog(requests=requests), workers=statuses, bridge_statuses={}, rates_s={})
    said = shown(snapshot)

    assert "vm[/x]" in said
    assert said.count("net[int8]") == 2


def test_what_is_not_due_is_told_and_is_no_work() -> None:
    said = shown(Snapshot(at=1.0, backlog=Backlog(scheduled=1200), workers={}, bridge_statuses={}, rates_s={}))
    assert "Scheduled: 1,200 tasks that are not due yet" in said
    assert "Outstanding: 0 requests" in said


def test_one_is_told_as_one_and_thousands_are_set_apart() -> None:
    statuses = {"b": {"leased": 1200, "oldest_at": 970.0}}
    one = Snapshot(at=1000.0, backlog=Backlog(chunks=1), workers={"w": {}}, bridge_statuses=statuses, rates_s={})
    none = Snapshot(at=1000.0, backlog=Backlog(), workers={}, bridge_statuses={}, rates_s={})

    assert "Fleet default: 1 worker, 1 bridge\n" in stripped(shown(one))
    assert "Outstanding: 1,200 requests, 6.0 s of device time, 1 chunk in flight" in shown(one)
    assert "Pub/Sub: 1 message waiting; " in shown(one, undelivered=1)
    assert "Fleet default: 0 workers, 0 bridges\n" in stripped(shown(none))


def stripped(said: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in said.splitlines())


def test_lists_that_nobody_reads_are_shown_with_what_to_do() -> None:
    lists = (UnreadList(name="lowtide.digit", tasks=3, oldest_s=1234.0, why="digit is not served", remedy="serve it"),)
    said = shown(Snapshot(at=1000.0, backlog=Backlog(), workers={}, bridge_statuses={}, rates_s={}), unread=lists)

    assert "lowtide.digit" in said
    assert "digit is not served: serve it" in said
    assert "1,234" in said
    assert "nobody reads" not in shown(
        Snapshot(at=1000.0, backlog=Backlog(), workers={}, bridge_statuses={}, rates_s={})
    )


def test_a_worker_s_name_reaches_no_terminal_as_it_is() -> None:
    snapshot = Snapshot(
        at=1000.0,
        backlog=Backlog(),
        workers={"\x1b]0;owned\x07": {"rates": {"\x1b[31mm": 0.1}}},
        bridge_statuses={},
        rates_s={},
    )
    said = shown(snapshot)

    assert "\x1b" not in said
    assert r"\x1b]0;owned\x07" in said


def test_a_worker_whose_queue_was_cancelled_is_deaf() -> None:
    statuses = {"w": {"busy": False, "deaf_to": ["lowtide.digits"]}}
    assert "deaf" in shown(Snapshot(at=1.0, backlog=Backlog(), workers=statuses, bridge_statuses={}, rates_s={}))


def test_a_suspect_worker_is_shown_with_its_reason() -> None:
    statuses = {
        "w": {"busy": False, "suspect": "9 of the last 9 requests of digits failed here with forbidden"},
        "v": {},
    }
    said = shown(Snapshot(at=1.0, backlog=Backlog(), workers=statuses, bridge_statuses={}, rates_s={}))
    assert " suspect " in said
    assert "Fleet default: 1 worker beside 1 suspect, 0 bridges" in said
    assert "w takes one task at a time, after pauses: 9 of the last 9 requests" in said


def test_the_size_that_is_recommended_has_a_machine_more_for_a_suspect_worker_while_there_is_work() -> None:
    statuses = {"w": {"suspect": "why"}, "v": {}}
    backlog = Backlog(requests={("digits", state): 10 if state is State.QUEUED else 0 for state in State})
    rates_s = {"digits": 5.0}
    said = shown(Snapshot(at=1.0, backlog=backlog, workers=statuses, bridge_statuses={}, rates_s=rates_s))
    assert "50.0 s of device time (and 60 s for the machines of suspect workers)" in said
    assert "Recommended size 2: gpu_seconds_outstanding is 110 and asks for 2" in said
