"""Where content comes from: `gs://`, `https://` and `file://`, each behind its allow-list and its bound.

Comes in: a request's URI. Goes out: bytes, or a ContentError. Next: `lowtide.workers.images`, or a model's `decode`.
"""
