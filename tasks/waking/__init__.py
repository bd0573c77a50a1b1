"""How a waiting worker learns that there are tasks: by tokens, so that no payload travels to whoever only waits.

Comes in: tasks that were pushed, by our app or by another. Goes out: a token for each. Next: a worker's
`lowtide.workers.consumer.wake`.
"""
