"""The wire contract: what a request, an outcome and a result look like as JSON. Pure.

Comes in: JSON, or a Python caller's values. Goes out: frozen models, or InvalidRequest in words. Other programs rely on
these; `docs/schemas/` holds their JSON Schemas. Times are RFC 3339, durations milliseconds.
"""
