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
PROTOCOL = "2"
"""What is spoken in Redis: what lies in which keys, and who may do what to it. Another one is a clean break."""
STEM = f"lt{PROTOCOL}:"
"""What our own keys begin with, behind the fleet's prefix."""
SUBSCRIPTION_CHARS = 12
"""48 bits: that two of a thousand subscriptions get the same hash happens once in 500 million fleets."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of keys, each with what it holds, who writes it, and what ends it. `message` is
    `<subscription's path>:<message_id>`; a key has a hash of the path, as there are millions of them. `task` is a
    Celery task id.
    """

    prefix: str

    @classmethod
    def of(cls, settings: Settings) -> "Keys":
        """The keys of the fleet that `settings` describes."""
        return cls(settings.prefix)

    @property
    def protocol(self) -> str:
        """`PROTOCOL` of those who use this Redis. Its name is the same in all of them. Written by the first heartbeat;
        never deleted.
        """
        return f"{self.prefix}lt:protocol"

    def unversioned(self, name: str) -> str:
        """A key of protocol 1, which is not told of by `protocol`. `workers`, `bridges`: sets of names of which
        `w:<name>` and `b:<name>` exist while they live (15 s); `unacked`: what its workers hold.
        """
        return f"{self.prefix}lt:{name}"

    def end(self, message: str) -> str:
        """`c:<bridge>` while a bridge settles the message (30 s); `done` once it is published (7 days), and once it is
        acknowledged (10 minutes, or 7 days again while another bridge holds a copy). Written by that bridge, and by
        whoever holds a copy; expires.
        """
        return f"{self.prefix}{STEM}end:{_short(message)}"

    def tries(self, message: str) -> str:
        """Attempts of the message that count. Written by the bridge that holds it; expires (7 days)."""
        return f"{self.prefix}{STEM}try:{_short(message)}"

    def loss(self, task: str) -> str:
        """Times that a worker vanished while it held the task; 0: one has handed it back. A worker that takes a task
        with this key reads what befell it before. Written by whoever puts the task back, and by a worker that is about
        to end; deleted with the acknowledgement, else it expires (1 day).
        """
        return f"{self.prefix}{STEM}loss:{task}"

    def strike(self, task: str) -> str:
        """Hash: `<place in the task>:<losses so far>`, of each request that ran alone and was not absolved, and
        `g<number>:<losses so far>` of each group that did. Written by the worker before they run; deleted with the
        acknowledgement, else it expires (1 day).
        """
        return f"{self.prefix}{STEM}strike:{task}"

    def part(self, task: str) -> str:
        """Hash: place in the task → outcome, of a task that was not finished. Written by a worker that has to stop, or
        in which its requests run alone; deleted with the acknowledgement, else it expires (1 day).
        """
        return f"{self.prefix}{STEM}part:{task}"

    def held(self, incarnation: str) -> str:
        """Hash of what a worker holds: delivery tag → key of the list that it was taken from, newline, Celery id,
        newline, the message. It never expires, and is there only while the incarnation is registered. Written by the
        take; an entry goes with its acknowledgement or on its way back, when the worker's or a sweeper's.
        """
        return f"{self.prefix}{STEM}held:{incarnation}"

    @property
    def stuck(self) -> str:
        """Hash: incarnation, colon, delivery tag → as in `held`, of what a worker held that is gone, and what can't go
        back, since something else than a list has its list's name. Written by a sweeper; the one that leads gives it
        back when that is gone.
        """
        return f"{self.prefix}{STEM}stuck"

    def blob(self, task: str) -> str:
        """Content of a chunk's requests, raw bytes, beside its task. Written by whoever sent it, in one MULTI with the
        task, and renewed while it waits for the result (10 minutes); deleted with that. Losses keep it.
        """
        return f"{self.prefix}{STEM}blob:{task}"

    def blobs(self, bridge: str) -> str:
        """Hash: task of a bridge → size in bytes of the content beside it, for whoever deletes what the bridge leaves
        behind. Written and renewed by the bridge with that (10 minutes); an entry is deleted with it, within 15 s after
        Redis can be used again if it is away then.
        """
        return f"{self.prefix}{STEM}blobs:{bridge}"

    @property
    def holders(self) -> str:
        """Hash: Celery id of a task that is held → the incarnation that took it last. An entry comes and goes with that
        of `held`.
        """
        return f"{self.prefix}{STEM}holders"

    @property
    def workers(self) -> str:
        """Sorted set, the register of workers: incarnation → its last heartbeat (Redis TIME, seconds); 0: it was given
        up, and a sweeper is at it. Written by its heartbeats; an entry goes when the worker ends and holds nothing, or
        with the last of what a sweeper gives back.
        """
        return f"{self.prefix}{STEM}workers"

    @property
    def worker_status(self) -> str:
        """Hash: incarnation of a registered worker → what it says of itself, JSON. An entry comes and goes with that of
        `workers`.
        """
        return f"{self.prefix}{STEM}worker_status"

    @property
    def suspects(self) -> str:
        """Sorted set: incarnation of a worker that is suspect, and so is no capacity → its last heartbeat. Written by
        that; an entry goes with the first heartbeat of one that no longer is, or with that of `workers`.
        """
        return f"{self.prefix}{STEM}suspects"

    @property
    def bridges(self) -> str:
        """Sorted set, the register of bridges: name → its last heartbeat (Redis TIME, seconds). Written by that; an
        entry goes when the bridge ends, or when a sweeper finds it silent.
        """
        return f"{self.prefix}{STEM}bridges"

    @property
    def bridge_status(self) -> str:
        """Hash: name of a bridge → what it says of itself, JSON. An entry comes and goes with that of `bridges`."""
        return f"{self.prefix}{STEM}bridge_status"

    @property
    def rates(self) -> str:
        """Hash: model → measured seconds of device time per request. Written by workers every 5 s, and
        at once what is new or far from what was told, and by a bridge when Redis has forgotten it; never deleted.
        """
        return f"{self.prefix}{STEM}rates"

    @property
    def models(self) -> str:
        """JSON list of the models that the fleet serves. Each bridge and worker writes it when it registers, and the
        exporter with each turn: the last one's holds. It stays when none lives.
        """
        return f"{self.prefix}{STEM}models"

    @property
    def unread(self) -> str:
        """Hash: list of ours that nobody reads → Unix time since when it is known to be there. Written by who looks for
        them, `lowtide status` and `lowtide doctor`; an entry goes when its list is gone.
        """
        return f"{self.prefix}{STEM}unread"

    @property
    def exporter(self) -> str:
        """Lock of the one who writes the fleet's figures to Cloud Monitoring. Written and renewed by that exporter,
        which deletes it when it ends; else it expires (30 s).
        """
        return f"{self.prefix}{STEM}exporter"

    @property
    def sweeper(self) -> str:
        """Lock of the one who gives back what vanished workers held. Written and renewed by that sweeper, which deletes
        it when it ends; else it expires (12 s).
        """
        return f"{self.prefix}{STEM}sweeper"

    @property
    def epoch(self) -> str:
        """A random word: another, or none, means that Redis lost its data. Written by whoever reads it first; never
        deleted.
        """
        return f"{self.prefix}{STEM}epoch"

    def result(self, task: str) -> str:
        """Celery's own result key; or says, for ten minutes, that the content beside the task is gone. Written by the
        worker; deleted by a bridge, `infer_many` or `infer_async` that has read it, else it expires (1 day).
        """
        return f"{self.prefix}celery-task-meta-{task}"

    @property
    def scheduled(self) -> str:
        """Sorted set: key of the list, newline, a message that is not due yet → when it is (Unix time). Written by the
        worker that took it; the next take after it is due puts it back into its list.
        """
        return f"{self.prefix}{STEM}scheduled"

    def wake(self, model: str) -> str:
        """List of tokens without content, each of which wakes one worker that waits: 32 at most. Written by whoever
        sends a task, by takes that leave some, and by the queue watch; a worker pops one, the others expire (10 s).
        """
        return f"{self.prefix}{STEM}wake:{model}"

    def queue(self, name: str) -> str:
        """A queue's list (priority 0; `queues.lists_of` has all). Written by senders, and by whoever puts a task back;
        emptied by takes. It never expires.
        """
        return f"{self.prefix}{name}"


def _short(message: str) -> str:
    subscription, _, message_id = message.rpartition(":")
    return f"{_hash(subscription)}:{message_id}"


@lru_cache
def _hash(subscription: str) -> str:
    return hashlib.sha256(subscription.encode()).hexdigest()[:SUBSCRIPTION_CHARS]
