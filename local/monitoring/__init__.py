"""Cloud Monitoring on one machine: what speaks google.monitoring.v3 comes in, points go out; they live in memory only.

`state` decides (no clock, thread or socket of its own) by the `rules` of the real service, `service` is the wire,
`server` the life. docs/local-monitoring.md says where it differs from the real service.
"""
