"""Pub/Sub on one machine: what speaks google.pubsub.v1 comes in, messages go out; state lives in memory only.

`state` decides (no clock, thread or socket of its own), `publisher` and `subscriber` are the wire, `server` the life.
`docs/local-pubsub.md` says where it differs from Google's emulator and from the real service.
"""
