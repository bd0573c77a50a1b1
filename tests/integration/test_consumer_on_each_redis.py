"""Worker processes with our consumer and a stock publisher, against every Redis server of this machine."""

import random
import signal
import time
import uuid

from tests.integration.bare_fleet import Fleet
from tests.waiting import until


def batch(fleet: Fleet, values: list[str], *, queue: str, seconds: float = 0.0) -> None:
    """As the bridge publishes: kombu's own producer, many messages in one write."""
    message = fleet.publisher.amqp.as_task_v2(str(uuid.uuid4()), "record", ["out", "?"])
    with fleet.publisher.producer_or_acquire() as producer, producer.batch(max_size=100):
        for value in values:
            task = str(uuid.uuid4())
            producer.publish(
                (["out", value, seconds], {}, {}),
                exchange="",
                routing_key=queue,
                serializer="json",
                headers={**message.headers, "id": task, "root_id": task},
                correlation_id=task,
                retry=False,
            )


def test_a_stock_publisher_gets_everything_done_exactly_once(fleet: Fleet) -> None:
    fleet.worker(threads=8)
    sent = [str(number) for number in range(120)]
    for number in sent[:60]:
        queue = ("lowtide.m", "lowtide.m.topic", "lowtide.m.high", "other")[int(number) % 4]
        fleet.send("record", "out", number, queue=queue, priority=int(number) % 10)
    batch(fleet, sent[60:], queue="lowtide.m.topic")

    until(lambda: len(fleet.out()) >= len(sent))
    until(fleet.nothing_held)
    assert sorted(fleet.out(), key=int) == sent
    assert fleet.put_back() == 0
    assert not [key for key in fleet.redis.keys("*") if key.startswith((b"lt2:", b"unacked", b"lowtide."))]


def test_killed_workers_lose_nothing(fleet: Fleet) -> None:
    chance = random.Random(fleet.redis.info("server")["redis_version"])
    fleet.worker(slot="steady", threads=2, quiet_s=1.5, wait=False)
    victims = [fleet.worker(slot=slot, threads=8, wait=slot == "b") for slot in "ab"]
    until(lambda: fleet.redis.llen("ready") == 3)
    sent = [str(number) for number in range(400)]
    for number in sent[:10]:
        fleet.send("hold", "out", number)
    until(lambda: len(fleet.out("started:out")) == 10, what="all have begun, two at the steady one at most")
    batch(fleet, sent[10:], queue="lowtide.m.topic", seconds=0.005)
    for victim in victims:
        time.sleep(chance.uniform(0.02, 0.15))
        victim.send_signal(signal.SIGKILL)
    fleet.let_go(30)  # one that was killed may have been about to take some
    until(lambda: set(fleet.out()) == set(sent), what="everything is done")
    until(fleet.nothing_held)
    assert fleet.put_back() >= 8, "what the killed held"
