"""Builds the objects of a bridge and connects them."""

from redis import Redis

from lowtide.bridge.acknowledge import Acknowledger
from lowtide.bridge.collect import Collector
from lowtide.bridge.fleet import FleetReader
from lowtide.bridge.flow_control import FlowControl
from lowtide.bridge.held.held import Held
from lowtide.bridge.held.leaser import Leaser
from lowtide.bridge.held.record_watch import RecordWatch
from lowtide.bridge.held.records import Records
from lowtide.bridge.messages.endings import Endings
from lowtide.bridge.messages.reader import Reader
from lowtide.bridge.messages.translate import Rules
from lowtide.bridge.pubsub.client import Pubsub
from lowtide.bridge.pubsub.pulls import Pulls
from lowtide.bridge.pull import Puller
from lowtide.bridge.settle import Settler
from lowtide.bridge.waits import USUAL, Waits
from lowtide.config import Settings
from lowtide.tasks.chunks.blob import Blobs
from lowtide.tasks.chunks.dispatch import Dispatch
from lowtide.tasks.chunks.lost import LostTasks
from lowtide.tasks.chunks.results import ChunkResults
from lowtide.tasks.chunks.sending import ChunkSender
from lowtide.tasks.redis.keys import Keys


class Parts:
    """The objects that `Bridge` runs, asks and closes, between the Redis, the Pub/Sub and the Celery that are given."""

    def __init__(
        self,
        settings: Settings,
        *,
        owner: str,
        redis: Redis,
        pubsub: Pubsub,
        sender: ChunkSender,
        waits: Waits = USUAL,
    ) -> None:
        """Raises SettingsError without a project."""
        keys, endings = Keys.of(settings), Endings(settings)
        records = Records(redis, keys, bridge=owner)
        self.held = held = Held()
        self.blobs = blobs = Blobs(redis, keys, bridge=owner)
        self.fleet = fleet = FleetReader(redis, keys, settings, bridge=owner)
        self.dispatch = dispatch = Dispatch(
            owner=owner,
            sender=sender,
            results=ChunkResults(redis, keys, owner, unanswered=held),
            lost=LostTasks(redis, keys, owner, gone_s=waits.looks.gone_s),
            blobs=blobs,
            unanswered=held,
            looks=waits.looks,
        )
        self.leaser = leaser = Leaser(pubsub=pubsub, held=held)
        self.record_watch = RecordWatch(records=records, held=held)
        self.collector = Collector(
            dispatch=dispatch, held=held, records=records, leaser=leaser, endings=endings, waits=waits
        )
        self.settler = Settler(pubsub=pubsub, records=records, held=held, leaser=leaser, endings=endings, waits=waits)
        self.acknowledger = Acknowledger(pubsub=pubsub, records=records, blobs=blobs, held=held, waits=waits)
        self.pulls = Pulls(pubsub, [settings.subscription_path(name) for name in settings.subscription], waits=waits)
        self.puller = Puller(
            pulls=self.pulls,
            held=held,
            leaser=leaser,
            records=records,
            reader=Reader(Rules.of(settings), endings),
            dispatch=dispatch,
            fleet=fleet,
            flow=FlowControl(
                models=settings.model_names,
                fleet=fleet,
                held=held,
                dispatch=dispatch,
                dead_letters=self.settler.dead_letters,
            ),
            waits=waits,
        )
