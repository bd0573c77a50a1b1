"""The faults: one function each. It waits for its random moment, marks it, and does its worst."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lowtide.config.process.preemption import PREEMPTED
from lowtide.tasks.redis.keys import Keys
from tests.drills import neighbours
from tests.drills.stage import Stage
from tests.drills.system import ROOT
from tests.waiting import until

KILL_POINTS = ("", "before-record", "after-record")
"""Where a bridge is killed: anywhere, between publish and record, between record and acknowledge."""

RETRY_POINTS = ("", "before-forget")
"""Where Redis is killed: anywhere, between the count of tries and the deletion of a result, retries still to come."""

POISONS = {
    "raise": "failed model_error",
    "hang": "failed timeout",
    "abort": "worker_lost",
    "exhaust": "failed out_of_memory",
}
"""What a request may do, and how it must end: a result's status and error, or a dead letter's reason."""

LEASE_AND_CLAIM_S = (35.0, 40.0)
PAUSE_S = 30.0
LAG_S = 1.0
"""How far behind a replica may be that takes over."""
BLOBS_S = 5.0
LONG = ("sleep-40", "sleep-100")
RESTART_S = 60.0
SUSPECT_S = 60.0
KILL_EVERY_S = (6.0, 8.0)
KILLS_BETWEEN = 10
MOMENT_S = 180.0
"""For a moment that a bridge has every seven seconds, as the row's load is."""


def worker_kill(stage: Stage) -> None:
    stage.wait(0.5, 3.0)
    name = stage.random.choice(stage.system.workers)
    _again(stage, name, partial(stage.system.fleet.signal, name, signal.SIGKILL))
    stage.wait_flow()


def worker_vanish(stage: Stage) -> None:
    """Its machine is gone: nobody closes its sockets at Redis' end, and the next one has another name."""
    stage.wait(0.5, 3.0)
    _vanish(stage, [stage.random.choice(stage.system.workers)])


def worker_denied(stage: Stage, *, is_found_out: bool = True) -> None:
    """A worker has no access to what requests name, and then has it again. It must find out by itself, and say why."""
    system = stage.system
    stage.wait(0.5, 3.0)
    name = stage.random.choice(system.workers)
    denied = system.accesses[name].denied
    stage.mark()
    denied.set()
    if is_found_out:
        until(lambda: "with forbidden, while other" in system.health(name)[1], within_s=SUSPECT_S, what="its reason")
    stage.wait(10.0, 20.0)
    denied.clear()
    stage.wait_flow()
    until(lambda: system.health(name)[0] == 200, within_s=SUSPECT_S, what="a worker that is well again")


def zone_loss(stage: Stage) -> None:
    """Half of the machines are gone at once, perhaps that of the sweeper among them. Others come in their places."""
    stage.wait(0.5, 3.0)
    _vanish(stage, stage.random.sample(stage.system.workers, len(stage.system.workers) // 2))


def bridge_kill(stage: Stage, *, points: Sequence[str] = KILL_POINTS) -> None:
    system = stage.system
    stage.wait(0.5, 3.0)
    name = stage.random.choice(system.bridges)
    point = stage.random.choice(points)
    if point:
        _again(stage, name, partial(_die_at, system.die_at(name), point))
    else:
        _again(stage, name, partial(system.fleet.signal, name, signal.SIGKILL))
    stage.wait_flow()


def worker_and_bridge_kill(stage: Stage) -> None:
    """At the same moment: neither is left to see the other gone."""
    system = stage.system
    stage.wait(0.5, 3.0)
    worker, bridge = stage.random.choice(system.workers), stage.random.choice(system.bridges)

    def end() -> None:
        for name in (worker, bridge):
            system.fleet.signal(name, signal.SIGKILL)

    _again(stage, bridge, end)
    stage.wait_flow()


def bridge_stop(stage: Stage) -> None:
    """Stopped for longer than its leases and claims, then continued."""
    stage.wait(0.5, 3.0)
    name = stage.random.choice(stage.system.bridges)
    stage.mark()
    stage.system.fleet.signal(name, signal.SIGSTOP)
    stage.wait(*LEASE_AND_CLAIM_S)
    stage.system.fleet.signal(name, signal.SIGCONT)
    stage.wait(2.0, 3.0)


def redis_kill(stage: Stage) -> None:
    """Back with its append-only file."""
    _redis_gone(stage, empty=False)


def redis_kill_retries(stage: Stage, *, points: Sequence[str] = RETRY_POINTS) -> None:
    """Back with its append-only file, while requests are tried again."""
    stage.wait_retried()
    _redis_gone(stage, empty=False, point=stage.random.choice(points))


def redis_empty(stage: Stage) -> None:
    """Back without any data."""
    _redis_gone(stage, empty=True)


def redis_behind(stage: Stage) -> None:
    """Back as it was a second before it died: as when a replica takes over that lagged."""
    system, log = stage.system, None
    stage.wait(0.5, 3.0)
    while log != system.redis_log:  # else it has begun another meanwhile
        log = system.redis_log
        known_bytes = log.stat().st_size
        time.sleep(LAG_S)
    stage.mark()
    system.kill_redis()
    os.truncate(log, known_bytes)
    stage.wait(0.5, 3.0)
    system.redis.start()
    stage.wait_flow()


def redis_flush(stage: Stage) -> None:
    stage.wait(0.5, 3.0)
    stage.mark()
    stage.system.client.flushall()
    stage.wait_flow()


def blob_lost(stage: Stage) -> None:
    """What lies beside the tasks is gone, again and again."""
    redis, gone = stage.system.client, 0
    stage.wait(0.5, 3.0)
    stage.mark()
    until_s = time.monotonic() + BLOBS_S
    while time.monotonic() < until_s:
        if found := list(redis.scan_iter(Keys("").blob("*"), count=1000)):
            gone += redis.delete(*found)
        time.sleep(BLOBS_S / 50)
    assert gone, "no content was there"
    stage.wait_flow()


def neighbour(stage: Stage) -> None:
    """A stock Celery application on the same Redis, whose tasks are long, while workers of ours die."""
    with neighbours.at_work(stage.system) as tasks:
        for fault in (worker_kill, worker_vanish, sigterm):
            fault(stage)
        stage.neighbours = tasks.join()


def upgrade(stage: Stage) -> None:
    """Every process gives way to one of the release before, then to one of this: a rollback, and a roll-out. Some
    requests take longer than it takes to get from one to the next.
    """
    system = stage.system
    for deed in LONG:
        stage.load.publish(deed)
    for release in (system.previous(), ROOT):
        for name in [*system.bridges, *system.workers]:
            stage.wait(1.0, 5.0)
            stage.mark()
            system.exchange(name, release)
            stage.wait_flow()


def redis_pause(stage: Stage) -> None:
    stage.wait(0.5, 3.0)
    stage.mark()
    pid = stage.system.redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    time.sleep(PAUSE_S)
    os.kill(pid, signal.SIGCONT)
    stage.wait_flow()


def redis_full(stage: Stage) -> None:
    """At its memory limit for a while."""
    stage.wait(0.5, 3.0)
    stage.mark()
    stage.system.client.config_set("maxmemory", 1)
    stage.wait(10.0, 20.0)
    stage.system.client.config_set("maxmemory", 0)
    stage.wait_flow()


def emulator_restart(stage: Stage) -> None:
    """What only the emulator held is gone with it; counted is what is published from its restart on."""
    stage.wait(0.5, 3.0)
    stage.mark()
    stage.system.restart_emulator()
    stage.collector.listen()
    stage.load.forget_before(time.monotonic())
    stage.wait_flow()
    stage.wait(4.0, 6.0)


def publish_refused(stage: Stage) -> None:
    gate = stage.system.gate
    stage.wait(0.5, 3.0)
    stage.mark()
    gate.refuses_publish.set()
    time.sleep(PAUSE_S)
    gate.refuses_publish.clear()
    stage.wait_flow()


def connection_cut(stage: Stage) -> None:
    stage.wait(0.5, 3.0)
    stage.mark()
    stage.system.proxies[stage.random.choice(stage.system.workers)].cut()
    stage.wait_flow()


def connection_slow(stage: Stage, *, lasts_s: tuple[float, float] = (8.0, 12.0)) -> None:
    """200 ms each way, for every worker."""
    stage.wait(0.5, 3.0)
    stage.mark()
    for proxy in stage.system.proxies.values():
        proxy.delay_s = 0.2
    stage.wait(*lasts_s)
    for proxy in stage.system.proxies.values():
        proxy.delay_s = 0.0
    stage.wait_flow()


def connection_half_open(stage: Stage) -> None:
    stage.wait(0.5, 3.0)
    stage.mark()
    stage.system.proxies[stage.random.choice(stage.system.workers)].swallow()
    stage.wait_flow()
    stage.wait(10.0, 15.0)  # for what times out at the ends


def sigterm(stage: Stage) -> None:
    """A worker or a bridge is asked to stop."""
    system = stage.system
    system.wait_ready()  # a process that is not up yet holds nothing, and ends by the signal itself
    stage.wait(0.5, 3.0)
    name = stage.random.choice([*system.workers, *system.bridges])
    _exit(stage, name, partial(system.fleet.signal, name, signal.SIGTERM))


def preemption(stage: Stage) -> None:
    """The metadata server tells one worker that its machine goes."""
    stage.system.wait_ready()
    stage.wait(0.5, 3.0)
    name = stage.random.choice(stage.system.workers)
    server = stage.system.metadata[name]
    _exit(stage, name, partial(server.announce, PREEMPTED, "TRUE"))
    server.announce(PREEMPTED, "FALSE")


def poison(stage: Stage, *, deed: str) -> None:
    stage.wait(0.5, 1.0)
    stage.mark()
    stage.poison(deed, POISONS[deed])
    stage.wait_flow()


def deliver_thrice(stage: Stage) -> None:
    """From the first message on; the load is all of it."""
    stage.mark()
    stage.load.join()
    stage.wait_flow()
    delivered, of = stage.system.gate.delivered(3), len(stage.load.sent)
    assert delivered > 0.9 * of, f"only {delivered} of {of} messages were delivered three times"


def deliver_thrice_for_a_while(stage: Stage) -> None:
    stage.mark()
    stage.system.gate.deliveries = 3
    stage.wait(5.0, 10.0)
    stage.system.gate.deliveries = 1


def soak(stage: Stage, *, requests: int) -> None:
    """One fault after the other until so many requests were sent, all of them with requests coming."""
    worst: list[Callable[[Stage], None]] = [partial(poison, deed=deed) for deed in POISONS]
    while len(stage.load.sent) < requests:
        stage.random.choice([*ANY, stage.random.choice(worst)])(stage)


def soak_long(stage: Stage, *, kills: int) -> None:
    """One worker after the other, each of which is up; of the stock application's a tenth as many."""
    system = stage.system
    for number in range(1, kills + 1):
        stage.wait(*KILL_EVERY_S)
        until(system.ready_workers, within_s=RESTART_S, what="a worker that is up")
        name = stage.random.choice(system.ready_workers())
        _again(stage, name, partial(system.fleet.signal, name, signal.SIGKILL))
        if number % KILLS_BETWEEN == 0:
            system.fleet.signal(stage.random.choice(system.stock), signal.SIGKILL)
            stage.random.choice(BRIEF)(stage)
        stage.wait_flow()


def _vanish(stage: Stage, names: Sequence[str]) -> None:
    system = stage.system
    stage.mark()
    for name in names:
        system.fleet.signal(name, signal.SIGSTOP)
        system.proxies[name].swallow()
    stage.wait(0.0, 2.0)
    for name in names:
        system.fleet.kill(name)
        system.start_worker(name)
    stage.wait_flow()


def _redis_gone(stage: Stage, *, empty: bool, point: str = "") -> None:
    system = stage.system
    stage.wait(0.5, 3.0)
    if point:
        _die_at(system.die_at(stage.random.choice(system.bridges)), point)
        until(lambda: system.redis.pid is None, within_s=MOMENT_S, what=f"the end of Redis {point}")
        stage.mark()
    else:
        stage.mark()
        system.kill_redis()
    if empty:
        system.empty_redis_folder()
    stage.wait(0.5, 3.0)
    system.redis.start()
    stage.wait_flow()


def _die_at(die_at: Path, point: str) -> None:
    aside = die_at.with_suffix(".new")
    aside.write_text(point)
    aside.replace(die_at)


def _again(stage: Stage, name: str, end: Callable[[], None]) -> None:
    """End a process, and wait until its supervisor has started it again."""
    process = stage.system.fleet.process(name)
    restarts = process.restarts
    stage.mark()
    end()
    until(lambda: process.restarts > restarts and process.pid, within_s=RESTART_S, what=f"a restart of {name}")


def _exit(stage: Stage, name: str, ask: Callable[[], None]) -> None:
    """Ask a process to end, and note with which code and after how long it did."""
    process = stage.system.fleet.process(name)
    restarts = process.restarts
    moment_s = stage.mark()
    ask()
    while process.restarts == restarts and time.monotonic() - moment_s < RESTART_S:
        time.sleep(0.02)
    code = process.exit_code if process.restarts > restarts else None
    stage.exits.append((code, round(time.monotonic() - moment_s, 1)))
    stage.wait_flow()


ANY: tuple[Callable[[Stage], None], ...] = (
    worker_kill,
    worker_vanish,
    bridge_kill,
    bridge_stop,
    redis_kill,
    redis_empty,
    redis_behind,
    redis_flush,
    redis_pause,
    redis_full,
    publish_refused,
    connection_cut,
    connection_slow,
    connection_half_open,
    sigterm,
    preemption,
    deliver_thrice_for_a_while,
)
"""All but the emulator's restart, which takes along what nobody else has, and what needs a load of its own."""

BRIEF: tuple[Callable[[Stage], None], ...] = (
    worker_vanish,
    bridge_kill,
    redis_kill,
    redis_full,
    connection_cut,
    connection_half_open,
    sigterm,
    preemption,
)
"""Those after which an answer is there within a minute, and after which Redis has what it had."""
