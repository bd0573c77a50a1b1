"""The wire to Pub/Sub: calls, pulls under way, and what a fleet needs there.

Comes in: names, credit. Goes out: messages, confirmations, or that Pub/Sub refuses or does not answer.
"""
