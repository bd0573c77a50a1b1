"""A bridge of real parts that dies at each of its calls: before it, or before it has the answer. Then another takes
over. Time is told, and leases and claims lapse when it is said.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis
from redis.client import Pipeline

from lowtide.bridge.pubsub.client import PullResponse
from lowtide.bridge.waits import Waits
from lowtide.bridge.wiring import Parts
from lowtide.config import Settings, load_settings
from lowtide.local.pubsub.resources import Content, SubscriptionConfig, TopicConfig
from lowtide.local.pubsub.state import PubsubState
from lowtide.tasks.app import configure
from lowtide.tasks.chunks.sending import ChunkSender
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys

MESSAGES = 3
TURNS = 12
NO_WAITS = Waits(credit_look_s=0.0, idle_look_s=0.0)
LAPSED_S = 60.0
REQUESTS, RESULTS, DEAD = (f"projects/p/topics/{name}" for name in ("lowtide-requests", "lowtide-results", "dead"))
SUBSCRIPTION = "projects/p/subscriptions/lowtide-requests"


class Died(BaseException):
    """The process is gone; nobody catches that."""


class World:
    """Pub/Sub, and who counts the calls of a bridge and lets it die at one of them."""

    def __init__(self, url: str) -> None:
        self.now_s = 1000.0
        self.state = PubsubState()
        for topic in (REQUESTS, RESULTS, DEAD):
            self.state.create_topic(TopicConfig(name=topic))
        self.state.create_subscription(SubscriptionConfig(name=SUBSCRIPTION, topic=REQUESTS), now_s=self.now_s)
        self.published: list[tuple[str, dict[str, str]]] = []
        self.calls: list[str] = []
        self.dies_at: tuple[int, bool] | None = None
        self.redis = Redis.from_url(url)

    def call(self, name: str, call: Callable[[], Any]) -> Any:
        """A call outside; the bridge may die before it, or before it has the answer."""
        self.calls.append(name)
        at, answered = self.dies_at or (0, False)
        if len(self.calls) == at and not answered:
            raise Died
        answer = call()
        if len(self.calls) == at:
            raise Died
        return answer

    # Pub/Sub, as the bridge's client

    def pull(self, subscription: str, max_messages: int) -> Any:
        """Answered at once, if by nothing."""

        def call() -> Any:
            response = PullResponse()
            for one in self.state.pull(subscription, max_messages=max_messages, now_s=self.now_s):
                content = one.message.content
                message = {
                    "message_id": one.message.message_id,
                    "data": content.data,
                    "attributes": content.attributes,
                    "publish_time": {"seconds": int(one.message.published_s)},
                }
                response.received_messages.add(ack_id=one.ack_id, message=message)
            return SimpleNamespace(add_done_callback=lambda done: done(None), result=lambda: response)

        return self.call("pull", call)

    def publish(self, topic: str, messages: Sequence[Any]) -> list[str]:
        def call() -> list[str]:
            contents = [Content(data=one.data, attributes=dict(one.attributes)) for one in messages]
            self.published += [(topic, dict(one.attributes)) for one in contents]
            return self.state.publish(topic, contents, now_s=self.now_s)

        return self.call("publish", call)

    def acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> None:
        if ack_ids:
            self.call("acknowledge", lambda: self.state.acknowledge(subscription, ack_ids, now_s=self.now_s))

    def modify_ack_deadline(self, subscription: str, ack_ids: Sequence[str], lease_s: int) -> None:
        self.state.modify_deadline(subscription, ack_ids, lease_s=lease_s, now_s=self.now_s)

    # a worker, and time

    def work(self) -> None:
        """Every task that waits is answered, once."""
        keys = Keys("")
        while raw := self.redis.rpop(keys.queue("lowtide.a.topic")):
            task, count = (json.loads(raw)["headers"][name] for name in ("id", "lowtide-n"))
            result = json.dumps({"status": "SUCCESS", "result": [{"status": "ok", "outputs": [1]}] * count})
            if not self.redis.exists(key := keys.result(task)):
                self.redis.set(key, result)
                self.redis.publish(keys.result(task.partition(".")[0]), f"{key}\n{result}")

    def lapse(self) -> None:
        """So long that leases and claims of who died are nobody's any more."""
        self.now_s += LAPSED_S
        for key in self.redis.scan_iter(f"{Keys('').end('*')[:8]}*"):
            if self.redis.get(key) != b"done":
                self.redis.delete(key)


def mortal_redis(world: World, settings: Settings) -> Redis:
    """A client, connected as ever, whose calls are counted."""

    class MortalPipeline(Pipeline):
        def execute(self, raise_on_error: bool = True) -> Any:
            names = "+".join(dict.fromkeys(str(command[0][0]) for command in self.command_stack)) or "nothing"
            return world.call(names, lambda: super(MortalPipeline, self).execute(raise_on_error))

    class MortalRedis(Redis):
        def execute_command(self, *args: Any, **options: Any) -> Any:
            return world.call(str(args[0]), lambda: super(MortalRedis, self).execute_command(*args, **options))

        def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> MortalPipeline:
            return MortalPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    return MortalRedis.from_pool(connect(settings).connection_pool)


def mortal_sender(world: World, sender: ChunkSender) -> Any:
    return SimpleNamespace(send=lambda *args, **options: world.call("enqueue", lambda: sender.send(*args, **options)))


def live(world: World, settings: Settings, owner: str) -> None:
    """One bridge, until it has nothing to do or dies."""
    redis = mortal_redis(world, settings)
    sender = mortal_sender(world, ChunkSender(configure(settings), bridge=owner))
    parts = Parts(settings, owner=owner, redis=redis, pubsub=world, sender=sender, waits=NO_WAITS)
    try:
        for _ in range(TURNS):
            for turn in (parts.acknowledger.turn, parts.settler.turn, parts.collector.turn):
                turn(0.0)
            parts.puller.turn()
            world.work()
            world.now_s += 1
    except Died:
        world.dies_at = None
        parts.acknowledger.turn(0.0)  # its thread was faster than death
        raise
    finally:
        parts.dispatch.close()
        redis.close()


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    world = World(redis_url)
    yield world
    world.redis.close()


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return load_settings(project="p", models="a", redis_url=redis_url)


def run(world: World, settings: Settings, *, dies_at: tuple[int, bool] | None) -> tuple[Counter[str], list[str]]:
    """How often each message was answered, by two bridges if the first died; and what that one had done."""
    request = json.dumps({"model": "a", "uri": "gs://b/o"}).encode()
    published = world.state.publish(REQUESTS, [Content(data=request)] * MESSAGES, now_s=world.now_s)
    world.redis.flushall()
    world.published.clear()
    world.calls.clear()
    world.dies_at, done = dies_at, list[str]()
    at, answered_last = dies_at or (0, False)
    try:
        live(world, settings, "a1")
    except Died:
        done = world.calls[: at if answered_last else at - 1]
        world.lapse()
        live(world, settings, "b2")
    answered = Counter(attributes["message_id"] for topic, attributes in world.published if topic == RESULTS)
    assert set(answered) == set(published), "nothing is lost, and nothing else is answered"
    world.lapse()
    assert world.state.pull(SUBSCRIPTION, max_messages=10, now_s=world.now_s) == [], "all of it is acknowledged"
    return answered, done


def test_a_death_at_any_call_loses_nothing_and_only_one_between_publish_and_record_doubles(
    world: World, settings: Settings
) -> None:
    once, _ = run(world, settings, dies_at=None)
    assert set(once.values()) == {1}
    calls, doubled = list(world.calls), set[tuple[str, bool]]()
    for at in range(1, len(calls) + 1):
        for answered in (False, True):
            counts, done = run(world, settings, dies_at=(at, answered))
            unrecorded = "publish" in done and "EVALSHA" not in done[done.index("publish") :]
            assert set(counts.values()) == ({2} if unrecorded else {1}), done
            if unrecorded:
                doubled.add((done[-1], answered))

    assert {"enqueue", "publish", "acknowledge"} <= set(calls)
    assert ("publish", True) in doubled, "a death there was tried"
