"""What the bridge holds: each message from its pull until it is acknowledged or handed back.

Comes in: messages that were pulled, chunks that were sent. Goes out: which leases to renew, what to hand back.
"""
