"""Messages: what they ask for, and what they end with. Pure.

Comes in: a Pub/Sub message. Goes out: a request, or why it is none; then a result, an expiry notice or a dead letter.
"""
