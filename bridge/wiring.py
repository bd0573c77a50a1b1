"""A bridge's parts, put together by hand."""

import threading
from dataclasses import dataclass

from redis import Redis

from lowtide.bridge.acker import Acker
from lowtide.bridge.collect import Collector
from lowtide.bridge.endings import Endings
from lowtide.bridge.flight import InFlight
from lowtide.bridge.gauge import Gauge
from lowtide.bridge.intake import Intake
from lowtide.bridge.leaser import Leaser
from lowtide.bridge.leases import Leases
from lowtide.bridge.lookout import Lookout
from lowtide.bridge.lost import Backstop
from lowtide.bridge.pubsub import Pubsub
from lowtide.bridge.pulls import Pulls
from lowtide.bridge.records import Records
from lowtide.bridge.settle import Settler
from lowtide.bridge.translate import Rules
from lowtide.config import Settings
from lowtide.tasks.app import configure
from lowtide.tasks.blob import Blobs
from lowtide.tasks.chunks import ChunkResults, ChunkSender
from lowtide.tasks.keys import Keys
from lowtide.tasks.store import connect

CONNECTIONS = 10
"""One for each thread that asks Redis, and one that listens: none waits for another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the bridge starts, asks and stops."""

    redis: Redis
    keys: Keys
    blobs: Blobs
    pubsub: Pubsub
    results: ChunkResults
    leases: Leases
    in_flight: InFlight
    gauge: Gauge
    leaser: Leaser
    acker: Acker
    settler: Settler
    collector: Collector
    pulls: Pulls
    intake: Intake
    backstop: Backstop
    lookout: Lookout


def wire(settings: Settings, *, owner: str, stopped: threading.Event) -> Parts:
    """The parts of one bridge. Connects to Redis and Pub/Sub on first use."""
    redis, keys = connect(settings, most=CONNECTIONS), Keys.of(settings)
    pubsub, leases, in_flight = Pubsub(), Leases(), InFlight()
    records = Records(redis, keys, bridge=owner)
    results = ChunkResults(redis, keys, owner)
    sender = ChunkSender(configure(settings), bridge=owner)
    endings = Endings(settings)
    blobs = Blobs(redis, keys, bridge=owner)
    gauge = Gauge(redis, keys, settings, bridge=owner)
    leaser = Leaser(pubsub, leases)
    acker = Acker(pubsub=pubsub, records=records, leases=leases, in_flight=in_flight)
    settler = Settler(
        pubsub=pubsub,
        records=records,
        acker=acker,
        leaser=leaser,
        leases=leases,
        in_flight=in_flight,
        dead_letter_topic=settings.topic_path(settings.dead_letter_topic),
    )
    collector = Collector(
        results=results,
        sender=sender,
        in_flight=in_flight,
        records=records,
        leaser=leaser,
        settler=settler,
        endings=endings,
    )
    pulls = Pulls(pubsub, [settings.subscription_path(name) for name in settings.subscription])
    intake = Intake(
        pulls=pulls,
        leases=leases,
        leaser=leaser,
        records=records,
        gauge=gauge,
        in_flight=in_flight,
        sender=sender,
        results=results,
        settler=settler,
        acker=acker,
        endings=endings,
        collector=collector,
        rules=Rules.of(settings),
        owner=owner,
        stopped=stopped,
    )
    backstop = Backstop(
        redis,
        keys,
        owner=owner,
        in_flight=in_flight,
        records=records,
        results=results,
        leaser=leaser,
        gauge=gauge,
    )
    return Parts(
        redis=redis,
        keys=keys,
        pubsub=pubsub,
        results=results,
        leases=leases,
        in_flight=in_flight,
        gauge=gauge,
        leaser=leaser,
        acker=acker,
        settler=settler,
        collector=collector,
        pulls=pulls,
        intake=intake,
        backstop=backstop,
        lookout=Lookout(records, leases, in_flight, blobs),
        blobs=blobs,
    )
