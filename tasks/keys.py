"""Every Redis key of Lowtide, in one place. A fleet's keys begin with its prefix, Celery's and kombu's included."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from lowtide.config import Settings

END_CLAIM_S = 30
END_DONE_S = 7 * 24 * 3600
TRY_S = 7 * 24 * 3600
LOSS_S = 24 * 3600
BLOB_S = 600
PRESENCE_S = 15
SUBSCRIPTION_CHARS = 12
"""48 bits: that two of a thousand subscriptions get the same hash happens once in 500 million fleets."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of keys. `message` is `<subscription>:<message_id>`, of whose first part, a path, a key has a hash: there
    are millions of them. `task` is a Celery task id.
    """

    prefix: str

    @classmethod
    def of(cls, settings: Settings) -> "Keys":
        """The keys of the fleet that `settings` describes."""
        return cls(settings.prefix)

    def end(self, message: str) -> str:
        """`c:<bridge>` while a bridge settles the message (30 s), `done` afterwards (7 days)."""
        return f"{self.prefix}lt:end:{_short(message)}"

    def tries(self, message: str) -> str:
        """Attempts of the message that count (7 days)."""
        return f"{self.prefix}lt:try:{_short(message)}"

    def loss(self, task: str) -> str:
        """Times that a worker vanished while it held the task (1 day)."""
        return f"{self.prefix}lt:loss:{task}"

    def strike(self, task: str) -> str:
        """Hash: `<place in the task>:<losses so far>`, of each request that ran alone and was not absolved (1 day)."""
        return f"{self.prefix}lt:strike:{task}"

    def part(self, task: str) -> str:
        """Hash: place in the task → outcome, of a task that was not finished (1 day)."""
        return f"{self.prefix}lt:part:{task}"

    def run(self, task: str) -> str:
        """Exists while a live worker runs the task (30 s, renewed every 5 s)."""
        return f"{self.prefix}lt:run:{task}"

    def held(self, worker: str) -> str:
        """Sorted set: the delivery tags that a worker (`<host>:<slot>`) holds → the score that it wrote last."""
        return f"{self.prefix}lt:held:{worker}"

    def blob(self, task: str) -> str:
        """Content of a chunk's requests, raw bytes, beside its task. Written by whoever sent it, in one MULTI with the
        task, and renewed while it waits for the result (10 minutes); deleted with that. Losses keep it.
        """
        return f"{self.prefix}lt2:blob:{task}"

    def worker(self, name: str) -> str:
        """A live worker's word of itself: JSON, 15 s."""
        return f"{self.prefix}lt:w:{name}"

    def bridge(self, name: str) -> str:
        """A live bridge's word of itself: JSON, 15 s."""
        return f"{self.prefix}lt:b:{name}"

    @property
    def workers(self) -> str:
        """Set of the names of workers that may be alive; `worker(name)` decides."""
        return f"{self.prefix}lt:workers"

    @property
    def bridges(self) -> str:
        """Set of the names of bridges that may be alive; `bridge(name)` decides."""
        return f"{self.prefix}lt:bridges"

    @property
    def rates(self) -> str:
        """Hash: model → measured seconds of device time per request."""
        return f"{self.prefix}lt:rates"

    @property
    def models(self) -> str:
        """JSON list of the models that the fleet serves. Each bridge, worker and exporter writes it with each beat:
        the last one's holds. It stays when none lives.
        """
        return f"{self.prefix}lt:models"

    @property
    def unread(self) -> str:
        """Hash: list of ours that nobody reads → Unix time since when it is known to be there. Written by who looks for
        them, `lowtide status` and `lowtide doctor`; an entry goes when its list is gone.
        """
        return f"{self.prefix}lt:unread"

    @property
    def exporter(self) -> str:
        """Lock of the one who writes the fleet's figures to Cloud Monitoring (45 s)."""
        return f"{self.prefix}lt:exporter"

    @property
    def reaper(self) -> str:
        """Lock of the one who gives back what vanished workers held (10 s)."""
        return f"{self.prefix}lt:reaper"

    @property
    def epoch(self) -> str:
        """A random word set by whoever comes first: another word, or none, means that Redis lost its data."""
        return f"{self.prefix}lt:epoch"

    def result(self, task: str) -> str:
        """Celery's own result key."""
        return f"{self.prefix}celery-task-meta-{task}"

    @property
    def unacked(self) -> str:
        """Hash: delivery tag → key of the list that it was taken from, newline, the message. Kombu's own hash of this
        name is of every other Celery worker on this Redis.
        """
        return f"{self.prefix}lt:unacked"

    @property
    def unacked_index(self) -> str:
        """Sorted set: delivery tag → when it was last seen alive (Redis TIME, seconds)."""
        return f"{self.prefix}lt:unacked_index"

    @property
    def scheduled(self) -> str:
        """Sorted set: key of the list, newline, a message that is not due yet → when it is (Unix time)."""
        return f"{self.prefix}lt:scheduled"

    def queue(self, name: str) -> str:
        """A queue's list (priority 0; `queues.lists_of` has all)."""
        return f"{self.prefix}{name}"


def _short(message: str) -> str:
    subscription, _, message_id = message.rpartition(":")
    return f"{_hash(subscription)}:{message_id}"


@lru_cache
def _hash(subscription: str) -> str:
    return hashlib.sha256(subscription.encode()).hexdigest()[:SUBSCRIPTION_CHARS]
