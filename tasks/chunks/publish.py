"""How tasks are sent by kombu: in one write with the tokens that wake workers for them, and the content beside them.

Our app's connections to Redis have `Transport`. Those of other apps of the process have kombu's own.
"""

# mypy: disable-error-code="misc, no-untyped-call"
# Kombu has no types.

from collections import Counter
from typing import Any, ClassVar, cast

from celery.app.amqp import AMQP
from kombu import connection as kombus
from kombu.transport import redis as stock
from kombu.utils.json import dumps
from redis import Redis
from redis.connection import PythonRespSerializer

from lowtide.tasks.app import TRANSPORTS
from lowtide.tasks.chunks.blob import DROP_NEWS, NEWS
from lowtide.tasks.queues import SEPARATOR, model_of
from lowtide.tasks.redis import protocol
from lowtide.tasks.redis.keys import BLOB_S, Keys
from lowtide.tasks.waking.tokens import push_tokens

AT_ONCE = 500
AT_ONCE_BYTES = 1024 * 1024
"""Of tasks and content; the last task may exceed it. Redis holds them twice until the EXEC, and what it then writes to
its file it copies the more often the more it is: an image in 2 MB takes half of the CPU that it takes in 9 MB.
"""
PASSED_ON_BYTES = 6000
"""As redis-py's own connections: values from here on are not copied."""


class TokenBatch(stock.PublishBatch):
    """Many tasks in one write, followed by as many tokens."""

    def flush(self) -> None:
        """Kombu's own, with tokens."""
        pushed = Counter(str(args[1]) for args, _ in self.pipeline.command_stack if args[0] == "LPUSH")
        prefix = self.channel.global_keyprefix
        for key, count in pushed.items():
            if model := model_of(key.removeprefix(prefix).partition(SEPARATOR)[0]):
                push_tokens(self.pipeline, Keys(prefix).wake(model), count)
        super().flush()


class Publication(TokenBatch):
    """The same with content beside the tasks, in one MULTI: all of it or none. Put it into a `producer.batch` before
    the first task. From one thread, used once.
    """

    @staticmethod
    def suits(channel: Any) -> bool:
        """False for other brokers than Redis, and for one whose commands may be repeated: nothing is batched there."""
        return isinstance(channel, stock.Channel) and channel.supports_batch_publish

    def __init__(self, channel: Any, *, bridge: str | None) -> None:
        """`bridge`: whose list of content has this one's, too."""
        super().__init__(channel, max_size=AT_ONCE)
        self._bridge = bridge
        self.pipeline.transaction = True
        self._prefix = channel.global_keyprefix
        self._beside: list[tuple[Any, ...]] = []
        self._bytes = 0

    def beside(self, task_id: str, blob: bytes | None) -> None:
        """Content, if there is any, of the task that is published next."""
        if blob is None:
            return
        keys = Keys("")  # the pipeline adds the prefix
        self._beside.append(("set", keys.blob(task_id), blob, BLOB_S))
        if self._bridge:
            self._beside.append(("hset", keys.blobs(self._bridge), task_id, len(blob)))
            self._beside.append(("pexpire", keys.blobs(self._bridge), BLOB_S * 1000))

    def drop_news(self, task_id: str) -> None:
        """What was said of the content of the task that is published next, which comes again."""
        self._beside.append(("eval", DROP_NEWS, 1, Keys(self._prefix).result(task_id), NEWS))  # here it adds none

    def add(self, name: str, *arguments: Any) -> None:
        """Kombu's: a command of the task that is being published."""
        commands, self._beside = [*self._beside, (name, *arguments)], []
        for command in commands:
            super().add(*command)
            self._bytes += sum(len(each) for each in command if isinstance(each, bytes | str))

    def publish(self, message: Any, **options: Any) -> Any:
        """Kombu's."""
        result = super().publish(message, **options)
        if self._bytes >= AT_ONCE_BYTES:
            self.flush()
        return result

    def flush(self) -> None:
        """Kombu's. Raises OtherProtocol: what we send would be in the way of a fleet that is not ours."""
        protocol.check(self.channel.unprefixed, Keys(self._prefix))
        self._bytes = 0
        super().flush()


class PublishingChannel(stock.Channel):
    """Kombu's, which also pushes the tokens that wake workers."""

    _reused: Any = None
    _unprefixed: Any = None

    @property
    def unprefixed(self) -> Redis:
        """A client of the same pool that adds no prefix to the keys: kombu's adds it to those of some commands."""
        self._create_client()
        return cast(Redis, self._unprefixed)

    def _create_client(self, asynchronous: bool = False) -> Any:
        # Kombu makes a client for each command: a third of a worker's time, and a quarter of what it takes to send a
        # chunk. A closed pool means a new one.
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._reused is None or self._reused.connection_pool is not self.pool:
            self._reused, self._unprefixed = super()._create_client(), Redis(connection_pool=self.pool)
        return self._reused

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Kombu's own, without hiredis, which copies what it packs: 2.2 MB in 3 ms, more than it takes to send them."""
        packer = PythonRespSerializer(PASSED_ON_BYTES, Redis().get_encoder().encode)
        return {**super()._connparams(asynchronous), "command_packer": packer}

    def create_publish_batch(self, max_size: int) -> TokenBatch:
        """Kombu's own."""
        return TokenBatch(self, max_size)

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        model = model_of(queue)
        if model is None or queue in self._expires or kwargs.get("_publish_batch") is not None:
            super()._put(queue, message, **kwargs)
            return
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            pipe.lpush(self._q_for_pri(queue, self._get_message_priority(message, reverse=False)), dumps(message))
            push_tokens(pipe, Keys(self.global_keyprefix).wake(model))
            _raise_first(pipe.execute(raise_on_error=False))


def _raise_first(answers: list[Any]) -> None:
    """Only the task's own: without a right to push tokens, who waits looks for itself."""
    if isinstance(answers[0], Exception):
        raise answers[0]


class Transport(stock.Transport):
    """Kombu's, with that channel. In a worker both are the consumer's: `lowtide.workers.consumer.install`."""

    Channel = PublishingChannel
    Poller = stock.MultiChannelPoller

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle: Any = self.Poller()


class SecureTransport(Transport):
    """The same, over TLS."""


class Connection(kombus.Connection):
    """Kombu's, whose URL says `redis://` and not the name of our transport: Flower and people read it."""

    resolve_aliases: ClassVar = {**kombus.resolve_aliases, **{name: scheme for scheme, name in TRANSPORTS.items()}}


class Amqp(AMQP):
    """Celery's own, by which its app connects."""

    Connection = Connection
