"""How large a fleet should be: the work that is outstanding, and the policy that turns it into a size.

Comes in: what Redis and Pub/Sub's metric say. Goes out: a signal, and the size that an instance group's autoscaler
would make of it. Next: the instance group, or a person before `lowtide status`. Decides nothing about single requests.
"""
