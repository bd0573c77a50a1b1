"""Pub/Sub → Celery → Pub/Sub, in four steps: pull, collect, settle, acknowledge. `held` knows where each message is.

Comes in: Pub/Sub messages. Goes out: results, dead letters and expiry notices, then the acknowledgement. Next: a
worker, through `tasks`. Only `pubsub` imports the client library's types.
"""
