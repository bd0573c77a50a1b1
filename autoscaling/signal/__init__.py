"""The signal: device seconds of work outstanding, from what Redis says.

Comes in: queues, what workers hold, what bridges say. Goes out: a number and its reasons. Next:
`lowtide.autoscaling.export`.
"""
