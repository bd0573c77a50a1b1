"""Google Cloud on one machine, speaking the real wire protocols: Redis, Pub/Sub, Cloud Monitoring,
and the processes of a fleet.

For `lowtide up`, `lowtide classify` and tests; nothing that runs in production imports it.
"""
