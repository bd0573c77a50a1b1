"""What people write first: `subscribe(callback)` that calls `.delay()`, and a Celery task that publishes its result.

It acknowledges when it has enqueued, so it loses work; it is the yardstick of speed, not of care.
`python -m benchmarks.naive bridge|worker`, with NAIVE_REDIS_URL, NAIVE_PROJECT and PUBSUB_EMULATOR_HOST.
"""

import base64
import json
import os
import sys

from celery import Celery
from google.cloud import pubsub_v1

PROJECT = os.environ["NAIVE_PROJECT"]
TOPIC, SUBSCRIPTION, RESULTS = "naive-requests", "naive-requests", "naive-results"

app = Celery("naive", broker=os.environ["NAIVE_REDIS_URL"], set_as_current=True)
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True, task_default_queue="naive")

publisher = pubsub_v1.PublisherClient()


@app.task(name="naive.infer")
def infer(message_id: str, data: str) -> None:
    result = {"message_id": message_id, "outputs": [len(base64.b64decode(data))]}
    publisher.publish(publisher.topic_path(PROJECT, RESULTS), json.dumps(result).encode()).result()


def callback(message: pubsub_v1.subscriber.message.Message) -> None:
    infer.delay(message.message_id, base64.b64encode(message.data).decode())
    message.ack()


def bridge() -> None:
    subscriber = pubsub_v1.SubscriberClient()
    subscriber.subscribe(subscriber.subscription_path(PROJECT, SUBSCRIPTION), callback).result()


if __name__ == "__main__":
    if sys.argv[1] == "bridge":
        bridge()
    else:
        app.worker_main(["worker", "-P", "threads", "-c", "16", "--without-gossip", "--without-mingle"])
