"""The fault matrix: what each row does, how often at least, on what, and how it is shown able to fail."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from tests.drills import faults
from tests.drills.callers import Calls
from tests.drills.stage import Stage
from tests.drills.system import Needs

BULK = 256
WRONG_BEFORE_SUSPECT = 100
"""20 until a worker doubts itself, then five a second until it is known whose fault that is (docs/how-it-works.md): for
ten seconds as a rule, and six more where the machine is busy.
"""
FLOOD_PER_S = 600.0
"""More than two workers can do."""


FLOW_S = 60.0
"""No promise, but more than starts of processes, leases and sweeps take together where there is time for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault. `at_least`: how often it is tried in all; `per_round`: how often under one load.

    `requests`: of a round, published at `per_s`; None: for as long as the faults take. `deeds`: what they do, in turn.
    `calls`: what Python callers send. `copies_per_try`: second copies that are allowed, `wrong_per_try`: wrong endings;
    `keeps_redis`: what `infer.delay` sent is promised; `flow_s`: within which others have to flow again; `longest_s`:
    within which all has to be answered. `runs_once`: nothing that has finished may run again; `spares_stock`: each task
    of the stock application runs once; `tries_once`: nothing counts as a further try.
    `by_name`: no part of the matrix, but tried when it is asked for.
    """

    fault: str
    act: Callable[[Stage], None]
    at_least: int
    per_round: int = 1
    per_s: float = 150.0
    requests: int | None = None
    deeds: tuple[str, ...] = ("answer",)
    needs: Needs = field(default_factory=Needs)
    callers: bool = False
    calls: Calls = field(default_factory=Calls)
    keeps_redis: bool = True
    runs_once: bool = False
    spares_stock: bool = False
    tries_once: bool = False
    copies_per_try: int = 0
    wrong_per_try: int = 0
    flow_s: float = FLOW_S
    longest_s: float = math.inf
    by_name: bool = False
    deliveries: int = 1
    broken: "tuple[Broken, ...]" = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A protecting piece that is switched off: in words, and the patch that does it, or several with commas. `act`: the
    part of the row's fault that the piece protects from, if not all of it. `per_s`: a load under which it is needed, if
    the row's is too thin. `from_copies`: what it protects from is second copies, so that one of them tells.
    """

    piece: str
    patch: str
    act: Callable[[Stage], None] | None = None
    per_s: float | None = None
    from_copies: bool = False

    def of(self, row: Row) -> Row:
        """The row without this piece. One fault under each load, as the first that tells is enough; but a second copy
        comes half a minute later, when a lease lapses.
        """
        return replace(
            row,
            per_round=row.per_round if self.from_copies else 1,
            act=self.act or row.act,
            per_s=self.per_s or row.per_s,
            calls=replace(row.calls, at_least=0),
            needs=replace(row.needs, patches=(*row.needs.patches, self.patch)),
            copies_per_try=0 if self.from_copies else row.copies_per_try,
        )


SWEEPER = Broken(piece="no sweeper, no hand-back by the successor", patch="no-sweeper")
EARLY_ACK = Broken(piece="workers acknowledge before they work; lost chunks stay lost", patch="early-ack")
RESEND = Broken(
    piece="nobody notices that Redis lost its data; lost chunks stay lost",
    patch="no-resend",
    per_s=FLOOD_PER_S,  # some of it is in Redis
)
ACK_FIRST = Broken(piece="the bridge acknowledges what it pulls", patch="ack-first")
NO_RECORD = Broken(piece="the bridge does not record what it has published", patch="no-record", from_copies=True)
FORGET_RAISES = Broken(
    piece="a result that can't be deleted ends the handing back of retries",
    patch="forget-raises",
    act=partial(faults.redis_kill_retries, points=("before-forget",)),
)
NO_PATIENCE = Broken(
    piece="workers give up a result that Redis does not take at once; lost chunks stay lost",
    patch="no-patience",
)
BRITTLE = Broken(
    piece="workers end when their connection breaks; no sweeper, no hand-back by the successor",
    patch="brittle",
    per_s=FLOOD_PER_S,  # each holds some
)
IMPATIENT = Broken(
    piece="workers wait for an answer of Redis for 0.1 s",
    patch="impatient",
    act=partial(faults.connection_slow, lasts_s=(65.0, 70.0)),
)
PULL_ONCE = Broken(piece="a bridge that a pull failed does not pull again", patch="pull-once")
PUBLISH_LOSSY = Broken(piece="what could not be published counts as published", patch="publish-lossy")
NO_NOTICE = Broken(piece="nobody listens to the metadata server", patch="no-notice")
NO_BISECTION = Broken(
    piece="a batch that fails fails all that are in it",
    patch="no-bisection",
    per_s=FLOOD_PER_S,  # else each is a batch of its own
)
NO_DEADLINE = Broken(piece="a batch may take an hour", patch="no-deadline")
NO_SOLO = Broken(piece="nobody remembers that a task was lost", patch="no-solo")
SEVERAL = Broken(
    piece="workers and bridges acknowledge first; a batch that fails fails all that are in it; lost chunks stay lost",
    patch=",".join(piece.patch for piece in (EARLY_ACK, ACK_FIRST, NO_BISECTION)),
    act=partial(faults.soak, requests=15_000),
)
CONTENT_FAILS = Broken(piece="a request whose content is gone is tried again like any other", patch="content-fails")
COMMON = Broken(piece="what kombu's channel gives back by age is not left to its owners", patch="common")
NO_CLAIM = Broken(piece="bridges publish without a claim", patch="no-claim", from_copies=True)
NO_DRAIN = Broken(piece="SIGTERM ends a process at once", patch="no-drain")

NO_SUSPICION = Broken(
    piece="no worker compares what it fails with what others answer",
    patch="no-suspicion",
    act=partial(faults.worker_denied, is_found_out=False),
)

DYING = Needs(bridge_patches=("die",))


ROWS: Mapping[str, Row] = {
    "worker-kill": Row(
        fault="worker `kill -9`",
        act=faults.worker_kill,
        at_least=30,
        per_round=5,
        callers=True,
        broken=(SWEEPER, EARLY_ACK),
    ),
    "worker-vanish": Row(
        fault="worker vanishes without closing its sockets",
        act=faults.worker_vanish,
        at_least=10,
        per_round=2,
        callers=True,
        broken=(SWEEPER,),
    ),
    "worker-denied": Row(
        fault="one of three workers is denied access to what requests name, for 20 to 40 s",
        act=faults.worker_denied,
        at_least=5,
        deeds=("there",),
        needs=Needs(workers=3),
        wrong_per_try=WRONG_BEFORE_SUSPECT,
        broken=(NO_SUSPICION,),
    ),
    "zone-loss": Row(
        fault="half of eight workers vanish at once, without closing their sockets",
        act=faults.zone_loss,
        at_least=5,
        per_s=FLOOD_PER_S,  # so that each holds something
        needs=Needs(workers=8),
        callers=True,
        broken=(SWEEPER,),
    ),
    "bridge-kill": Row(
        fault="bridge `kill -9`: anywhere, between publish and record, between record and acknowledge",
        act=faults.bridge_kill,
        at_least=30,
        per_round=5,
        needs=DYING,
        copies_per_try=BULK,
        broken=(ACK_FIRST, replace(NO_RECORD, act=partial(faults.bridge_kill, points=("after-record",)))),
    ),
    "bridge-stop": Row(
        fault="one of two bridges stopped for longer than its leases and claims, then continued",
        act=faults.bridge_stop,
        at_least=10,
        per_s=300,  # so that it holds something when it is stopped
        needs=Needs(bridges=2),
        copies_per_try=BULK,
        broken=(NO_CLAIM,),
    ),
    "redis-kill": Row(
        fault="Redis `kill -9`, back with its append-only file",
        act=faults.redis_kill,
        at_least=5,
        callers=True,
        copies_per_try=BULK,
        broken=(BRITTLE,),
    ),
    "redis-kill-retries": Row(
        fault="Redis `kill -9`, back with its append-only file, while every third request is tried again",
        act=faults.redis_kill_retries,
        at_least=10,
        per_round=5,
        per_s=80,
        deeds=("answer", "answer", "soon", "answer", "answer", "late"),
        # By default a worker tries to fetch for 1.2 s: 40 such tries a second are more than the threads of two can do.
        needs=Needs(bridge_patches=("redis-dies",), env={"LOWTIDE_FETCH_TIMEOUT_S": "1"}),
        callers=True,
        copies_per_try=BULK,
        broken=(FORGET_RAISES,),
    ),
    "redis-empty": Row(
        fault="Redis `kill -9`, back empty",
        act=faults.redis_empty,
        at_least=5,
        callers=True,
        keeps_redis=False,
        copies_per_try=BULK,
        broken=(RESEND,),
    ),
    "redis-behind": Row(
        fault="Redis `kill -9`, back as it was a second before",
        act=faults.redis_behind,
        at_least=5,
        callers=True,
        keeps_redis=False,
        copies_per_try=BULK,
        broken=(RESEND,),
    ),
    "redis-flush": Row(
        fault="`FLUSHALL`",
        act=faults.redis_flush,
        at_least=5,
        callers=True,
        keeps_redis=False,
        copies_per_try=BULK,
        broken=(RESEND,),
    ),
    "blob-lost": Row(
        fault="what lies beside tasks is deleted, for 5 s",
        act=faults.blob_lost,
        at_least=5,
        per_round=5,
        per_s=FLOOD_PER_S,  # so that some of it waits
        callers=True,
        tries_once=True,
        broken=(CONTENT_FAILS,),
    ),
    "redis-pause": Row(
        fault="Redis paused for 30 s",
        act=faults.redis_pause,
        at_least=5,
        per_s=80,
        callers=True,
        copies_per_try=BULK,
        broken=(NO_PATIENCE,),
    ),
    "redis-full": Row(
        fault="Redis out of memory for 10 to 20 s",
        act=faults.redis_full,
        at_least=5,
        callers=True,
        copies_per_try=BULK,
        broken=(NO_PATIENCE,),
    ),
    "emulator-restart": Row(
        fault="Pub/Sub emulator restarted",
        act=faults.emulator_restart,
        at_least=5,
        copies_per_try=BULK,
        broken=(PULL_ONCE,),
    ),
    "publish-refused": Row(
        fault="publishing refused for 30 s",
        act=faults.publish_refused,
        at_least=5,
        per_s=80,
        copies_per_try=BULK,
        broken=(PUBLISH_LOSSY,),
    ),
    "connection-cut": Row(
        fault="worker–Redis connections cut",
        act=faults.connection_cut,
        at_least=5,
        per_round=5,
        callers=True,
        broken=(BRITTLE,),
    ),
    "connection-slow": Row(
        fault="worker–Redis connections delayed by 200 ms",
        act=faults.connection_slow,
        at_least=5,
        callers=True,
        broken=(IMPATIENT,),
    ),
    "connection-half-open": Row(
        fault="worker–Redis connections half-open",
        act=faults.connection_half_open,
        at_least=5,
        callers=True,
        broken=(BRITTLE,),
    ),
    "sigterm": Row(
        fault="SIGTERM to a worker or a bridge",
        act=faults.sigterm,
        at_least=10,
        per_round=5,
        callers=True,
        runs_once=True,
        broken=(NO_DRAIN,),
    ),
    "preemption": Row(
        fault="preemption notice to a worker",
        act=faults.preemption,
        at_least=10,
        per_round=5,
        needs=Needs(preemptible=True),
        callers=True,
        runs_once=True,
        broken=(NO_NOTICE,),
    ),
    "poison-raise": Row(
        fault="a request that raises",
        act=partial(faults.poison, deed="raise"),
        at_least=1,
        requests=500,
        broken=(NO_BISECTION,),
    ),
    "poison-hang": Row(
        fault="a request that hangs",
        act=partial(faults.poison, deed="hang"),
        at_least=1,
        requests=500,
        needs=Needs(env={"LOWTIDE_BATCH_DEADLINE_S": "5"}),
        broken=(NO_DEADLINE,),
    ),
    "poison-abort": Row(
        fault="a request that calls `os.abort`",
        act=partial(faults.poison, deed="abort"),
        at_least=1,
        requests=500,
        broken=(NO_SOLO,),
    ),
    "poison-exhaust": Row(
        fault="a request that exhausts memory",
        act=partial(faults.poison, deed="exhaust"),
        at_least=1,
        requests=500,
        needs=Needs(env={"DRILL_BOUNDED": "1"}),
        broken=(NO_BISECTION,),
    ),
    "neighbour": Row(
        fault="a stock Celery application on the same Redis, with tasks of 40 s, while workers die",
        act=faults.neighbour,
        at_least=1,
        spares_stock=True,
        broken=(COMMON,),
    ),
    "upgrade": Row(
        fault="every process by the release before, then by this one, with requests of 40 and 100 s",
        act=faults.upgrade,
        at_least=1,
        per_s=50,
        needs=Needs(workers=4, bridges=2, env={"LOWTIDE_BATCH_DEADLINE_S": "300", "LOWTIDE_STUCK_AFTER_S": "300"}),
        callers=True,
        flow_s=240.0,  # the long ones hold devices, and go from worker to worker
        broken=(ACK_FIRST,),
    ),
    "thrice": Row(
        fault="every message delivered three times",
        act=faults.deliver_thrice,
        at_least=1,
        requests=2000,
        deliveries=3,
        broken=(NO_RECORD,),
    ),
    "soak": Row(
        fault="all of it at random for 20 minutes",
        act=partial(faults.soak, requests=100_000),
        at_least=1,
        per_s=84,
        needs=Needs(
            bridges=2,
            bridge_patches=("die",),
            preemptible=True,
            env={"LOWTIDE_BATCH_DEADLINE_S": "5", "DRILL_BOUNDED": "1"},
        ),
        callers=True,
        keeps_redis=False,
        copies_per_try=BULK,
        broken=(SEVERAL,),
    ),
    "soak-long": Row(
        fault="300 times worker `kill -9`, after each ten of them one of the others that are over at once",
        act=partial(faults.soak_long, kills=300),
        at_least=1,
        per_s=20,
        needs=Needs(
            workers=4,
            stock=2,
            bridges=2,
            bridge_patches=("die",),
            preemptible=True,
            env={"DRILL_REQUEST_S": "0"},
        ),
        callers=True,
        calls=Calls(many_per_s=1250, at_least=3_000_000, stock_per_s=125),
        copies_per_try=BULK,
        longest_s=60.0,
        by_name=True,
        broken=(replace(SWEEPER, act=partial(faults.soak_long, kills=10)),),
    ),
}
