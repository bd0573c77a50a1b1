"""What every process does alike: logging, liveness, loops in threads, outages, a notice of preemption, the end.

Comes in: a function that tells the health, a turn to repeat, an error that was met. Goes out: a line in the log, an
answer at `/healthz`, a drain. Next: the processes, `lowtide.bridge`, `lowtide.workers` and `lowtide.autoscaling`.
"""
