"""Pub/Sub → Celery → Pub/Sub: pull on credit, lease, translate, chunk, enqueue, settle, dead-letter.

Comes in: Pub/Sub messages. Goes out: results, dead letters and expiry notices, then the acknowledgement. Next: a
worker, through `tasks`. The only importer of google.cloud.pubsub.
"""
